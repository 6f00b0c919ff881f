"""Bytes under keys: the only place that touches the disk of a repository."""

from deltavcs.storage.files import FileReader, translate_os_errors
from deltavcs.storage.local import LocalStorage
from deltavcs.storage.workspace import NewFile, Workspace

__all__ = ["FileReader", "LocalStorage", "NewFile", "Workspace", "translate_os_errors"]

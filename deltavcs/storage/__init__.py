"""Bytes under keys: the only place that touches the disk of a repository.

A backend is one class, as `LocalStorage` is; `file_calls.py` holds what it asks of the system.
"""

from deltavcs.storage.file_calls import FileReader, translate_os_errors
from deltavcs.storage.local_storage import LocalStorage
from deltavcs.storage.workspace import NewFile, Workspace

__all__ = ["FileReader", "LocalStorage", "NewFile", "Workspace", "translate_os_errors"]

"""Bytes under keys: the only place that touches the disk of a repository.

A backend is one class, as `LocalStorage` in `local_storage.py`; what it asks of the system is in `file_calls.py`.
"""

from deltavcs.storage.file_calls import FileReader, translate_os_errors
from deltavcs.storage.local_storage import LocalStorage
from deltavcs.storage.workspace import NewFile, Workspace

__all__ = ["FileReader", "LocalStorage", "NewFile", "Workspace", "translate_os_errors"]

"""A disk that fails at one chosen change of the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deltavcs.storage import LocalStorage


class FaultyStorage(LocalStorage):
    """LocalStorage whose n-th change raises, once; every change is written down.

    Models a disk that is full (`OSError(ENOSPC)`), a disk that fails (`OSError(EIO)`), Ctrl-C
    (`KeyboardInterrupt`) and, with `Lost`, a process that is gone: whatever was not yet done never is.

    Attributes:
        changes: what happened to which key, in order.
        fail_at: index of the change that fails; None for never.
        error: makes what is raised.
        before: called with each change before it happens, for tests that act in between.
    """

    def __init__(
        self,
        root: Path,
        *,
        fail_at: int | None = None,
        error: Callable[[], BaseException] = lambda: OSError(28, "No space left on device"),
        sticky: bool = False,
        before: Callable[[str, str], None] | None = None,
    ) -> None:
        super().__init__(root, sync=False)
        self.changes: list[tuple[str, str]] = []
        self.fail_at = fail_at
        self.error = error
        self.sticky = sticky
        self.before = before

    def step(self, what: str, key: str) -> None:
        """Note the change; fail if it is the chosen one, or any later one of a disk that stays full."""
        number = len(self.changes)
        self.changes.append((what, key))
        if self.before is not None:
            self.before(what, key)
        if self.fail_at is not None and (number == self.fail_at or (self.sticky and number > self.fail_at)):
            raise self.error()


class Lost(BaseException):
    """The process is gone: no handler of the library may catch this."""

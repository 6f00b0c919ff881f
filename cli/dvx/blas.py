"""Idle threads of numpy's algebra library sleep instead of spinning: of a short command they took a third."""

from __future__ import annotations

import os

_NAME = "OPENBLAS_THREAD_TIMEOUT"
# Spin for 2^4 cycles, the least there is, instead of 2^26.
_SHORTEST = "4"
_ours = False


def calm() -> None:
    """Set it for this process, unless the user has; before numpy is imported."""
    global _ours
    _ours = _NAME not in os.environ
    if _ours:
        os.environ[_NAME] = _SHORTEST


def environment() -> dict[str, str]:
    """The environment for commands of the user, without what `calm` put there."""
    return {name: value for name, value in os.environ.items() if not (_ours and name == _NAME)}

"""Ctrl-C and SIGTERM: remembered, so that whatever they surface as ends in one line and the right code.

An interrupt may surface as `KeyboardInterrupt`, as an `ImportError` of a half-imported package, or as a
driver's own error. Once a signal came, no exception is a bug.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import threading
from types import FrameType

_received: int | None = None
_code: int | None = None


def install() -> None:
    """Raise `KeyboardInterrupt` for SIGINT and SIGTERM and remember which one it was."""
    # First in, last out: the handlers of all others have run by then.
    atexit.register(_vanish)
    signal.signal(signal.SIGINT, _on_signal)
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _on_signal)
    # Extension modules print an interrupt that hits their import, and raise another error.
    uncaught, unraisable, thread = sys.excepthook, sys.unraisablehook, threading.excepthook
    sys.excepthook = lambda *args: uncaught(*args) if _received is None else None
    sys.unraisablehook = lambda args: unraisable(args) if _received is None else _again(args.exc_value)
    threading.excepthook = lambda args: thread(args) if _received is None else None


def ignore() -> None:
    """The command is done, and ending takes no time: from now on a signal changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def received() -> int | None:
    """The signal that came, if one did."""
    return _received


def report(*, as_json: bool, detail: str = "") -> int:
    """Say that the command was interrupted, and what it had done before; returns the exit code."""
    code = 128 + (_received or signal.SIGINT)
    word = "terminated" if code == 128 + signal.SIGTERM else "interrupted"
    message = f"{word}; {detail}" if detail else word
    if as_json:
        error = {"kind": word, "message": message, "hint": None, "exit_code": code}
        line = json.dumps({"error": error})
    else:
        # A terminal shows ^C at the cursor: begin a line of our own.
        line = ("\n" if sys.stderr.isatty() else "") + f"error: {message}"
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    return code


def leave(code: int) -> None:
    """Exit with `code`; after a signal at once, without waiting for threads that still compute."""
    global _code
    if _received is None:
        _code = code
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _vanish() -> None:
    """End a process that is done: taking its modules apart takes longer than some commands do."""
    if _code is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter will notice, and say so
    os._exit(_code)


def _again(error: BaseException | None) -> None:
    """Send the signal once more if it surfaced in a finalizer, where the interpreter drops it."""
    number, target = _received, threading.main_thread().ident
    if isinstance(error, KeyboardInterrupt) and number is not None and target is not None:
        timer = threading.Timer(0.05, signal.pthread_kill, (target, number))
        timer.daemon = True
        timer.start()


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    raise KeyboardInterrupt

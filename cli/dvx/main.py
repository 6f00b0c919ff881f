"""The entry point: signals first, everything else afterwards, so that Ctrl-C is quiet at any moment."""

from __future__ import annotations

import gc
import os
import sys

from dvx import blas, signals


def main() -> None:
    """Run `dvx` with the arguments of this process and exit."""
    signals.install()
    _open_streams()
    blas.calm()
    # What imports make stays: looking through it again and again was a twentieth of a short command.
    gc.set_threshold(100_000)
    try:
        from dvx.app import cli

        cli.complete()
        code = cli.run(sys.argv[1:])
        signals.ignore()
    except BaseException:
        # Only what was raised before errors are handled: while modules are imported.
        if signals.received() is None:
            raise
        code = signals.report(as_json="--json" in sys.argv)
    signals.leave(code)


def _open_streams() -> None:
    """Put the null device where a standard stream is closed, as by `>&-`: else a pack gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123

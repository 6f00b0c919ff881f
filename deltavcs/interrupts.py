"""Steps that an interrupt must not leave half done."""

from __future__ import annotations

from collections.abc import Callable


def to_the_end(step: Callable[[], None]) -> None:
    """Run a brief step that can be begun again; an interrupt that comes meanwhile is raised after it."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            step()
            break
        except KeyboardInterrupt as exc:
            interrupt = exc
    if interrupt is not None:
        raise interrupt

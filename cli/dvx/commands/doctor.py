"""`dvx doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from dvx.app import command
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.doctor import Finding


@command(examples=[("dvx doctor", ""), ("dvx doctor --no-device", "without starting torch")], statuses=())
@click.option("--device/--no-device", default=True, help="Ask torch for GPUs, which takes a second or two.")
def doctor(session: Session, device: bool) -> None:
    """Show versions, native code, devices and the repository.

    Outside a repository it leaves the last of these out.
    """
    from deltavcs.errors import ErrorKind, NotFoundError
    from deltavcs.porcelain.doctor import doctor as verb

    try:
        repo = session.repository()
    except NotFoundError as exc:
        if session.repo is not None or exc.kind is not ErrorKind.NO_REPOSITORY:
            raise
        repo = None
    found = verb(repo, device=device)
    session.emit(lambda: {"ok": all(f.ok for f in found), "findings": found}, _lines(found))


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    wide = max(len(f.topic) for f in found)
    for f in found:
        mark = "  " if f.ok else click.style("! ", fg="red", bold=True)
        yield f"{mark}{f.topic:<{wide}}  {f.value}"
        if f.hint:
            yield f"  {'':<{wide}}  {click.style(f.hint, dim=True)}"

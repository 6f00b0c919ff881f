"""`dvx doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

import deltavcs as dv
from dvx.app import command
from dvx.hints import BY_ADVICE
from dvx.session import Session

if TYPE_CHECKING:
    from deltavcs.porcelain.doctor import Finding


@command(examples=[("dvx doctor", ""), ("dvx doctor --no-device", "without starting torch")], statuses=())
@click.option("--device/--no-device", default=True, help="Ask torch for GPUs, which takes a second or two.")
def doctor(session: Session, device: bool) -> None:
    """Show versions, native code, devices and the repository.

    Outside a repository it leaves the last of these out.
    """
    try:
        repo = session.repository()
    except dv.NotFoundError as exc:
        if session.repo is not None or exc.kind is not dv.ErrorKind.NO_REPOSITORY:
            raise
        repo = None
    found = dv.doctor(repo, device=device)
    session.emit(lambda: _document(found), _lines(found))


def _document(found: Sequence[Finding]) -> dict[str, object]:
    rows = [{"topic": f.topic, "value": f.value, "ok": f.ok, "hint": _hint(f)} for f in found]
    return {"ok": all(f.ok for f in found), "findings": rows}


def _hint(finding: Finding) -> str | None:
    words = BY_ADVICE[finding.advice] if finding.advice is not None else None
    return words.format(package=finding.topic) if words is not None else None


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    wide = max(len(f.topic) for f in found)
    for f in found:
        mark = "  " if f.ok else click.style("! ", fg="red", bold=True)
        yield f"{mark}{f.topic:<{wide}}  {f.value}"
        if hint := _hint(f):
            yield f"  {'':<{wide}}  {click.style(hint, dim=True)}"

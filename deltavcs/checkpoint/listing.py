"""Which files of a listing are fetched: the rules of an intake, before there are any files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Cause, Intake, LeftOut, Rules
from deltavcs.checkpoint.layout import is_other_format, is_pickle, is_safetensors
from deltavcs.checkpoint.left_by_default import superseded
from deltavcs.errors import ErrorKind, InvalidInputError


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a listing is fetched, what is left out, and which patterns matched nothing."""

    wanted: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    unmatched: tuple[str, ...]


def choose_listed(sizes: Mapping[str, int], intake: Intake, *, allow_pickle: bool) -> Choice:
    """Decide of every file of a listing. Where there are safetensors, weights in other formats are left out.

    Args:
        sizes: bytes by path.
        allow_pickle: pickled weights are fetched where there are no safetensors.

    Raises:
        InvalidInputError: `pickle-refused` if the only weights are pickles; `bad-argument` for what is no
            pattern.
    """
    rules = Rules(intake)
    where = {path: _where(path, rules) for path in sizes}
    taken = [path for path, found in where.items() if found is None]
    if any(map(is_safetensors, taken)):
        unwanted = [p for p in taken if is_other_format(p) or is_pickle(p) or _superseded(p, taken)]
    elif any(is_pickle(p) and "/" not in p for p in taken):
        if not allow_pickle:
            raise InvalidInputError(
                "the only weights are pickled ones, which can run code when they are read",
                kind=ErrorKind.PICKLE_REFUSED,
                advice=Advice.ALLOW_PICKLES,
            )
        unwanted = [p for p in taken if is_other_format(p)]
    else:
        unwanted = []
    for path in unwanted:
        if not rules.includes(path):
            where[path] = (path, Cause.OTHER_FORMAT if is_other_format(path) else Cause.SUPERSEDED)
    wanted = tuple(p for p, found in where.items() if found is None)
    return Choice(wanted, tuple(_grouped(where, sizes)), rules.unmatched)


def _where(path: str, rules: Rules) -> tuple[str, Cause] | None:
    """The file or the folder above it that is left out, and why."""
    if rules.includes(path):
        return None
    at = path.find("/")
    while at >= 0:
        cause = rules.judge(path[: at + 1])
        if cause is not None:
            return path[: at + 1], cause
        at = path.find("/", at + 1)
    cause = rules.judge(path)
    return None if cause is None else (path, cause)


def _superseded(path: str, taken: list[str]) -> bool:
    folder, _, name = path.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    return superseded(name, [p.removeprefix(prefix) for p in taken if p.startswith(prefix)])


def _grouped(where: Mapping[str, tuple[str, Cause] | None], sizes: Mapping[str, int]) -> Iterator[LeftOut]:
    groups: dict[tuple[str, Cause], list[str]] = {}
    for path, found in sorted(where.items()):
        if found is not None:
            groups.setdefault(found, []).append(path)
    for (path, cause), files in groups.items():
        size = sum(sizes[p] for p in files)
        yield LeftOut(path, size, len(files), cause, any(map(is_safetensors, files)))

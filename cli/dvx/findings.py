"""What there is to say of a source that was read: what was left out, and what does not agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dvx import text
from dvx.reports import WARNING

if TYPE_CHECKING:
    from deltavcs.checkpoint.intake import LeftOut
    from deltavcs.checkpoint.source import Findings

_SHOWN = 6

_LEFT_OUT = {
    "default": "left out, --include takes it",
    "superseded": "left out, safetensors are there",
    "ignored": "left out by .dvxignore",
    "excluded": "left out by --exclude",
    "internal": "left out",
    "other-format": "left out, safetensors are there",
}
_CANNOT = {
    "bad-name": "a name that not every system can hold",
    "broken-link": "a broken link",
    "link-loop": "a link into its own folder",
    "special-file": "not a regular file",
    "unreadable": "cannot be read",
    "lfs-pointer": "a Git LFS pointer, not the file itself",
}


def findings_document(found: Findings) -> dict[str, Any]:
    """The fields of a source's findings, for JSON."""
    return {
        "left_out": found.left_out,
        "links": found.links,
        "beside": found.beside,
        "unnamed": found.unnamed,
        "overlaid": found.overlaid,
        "unindexed": found.unindexed,
        "incomplete": found.incomplete,
        "unmatched": found.unmatched,
        "whole_files": found.whole_files,
    }


def findings_lines(found: Findings, converted: Sequence[str]) -> Iterator[str]:
    """What was left out of a source, converted on the way, or does not agree."""
    for problem in found.incomplete:
        yield f"{WARNING} incomplete: {text.cell(problem)}"
    if found.whole_files:
        yield f"{WARNING} no tensors: kept as files, whole"
    if converted:
        yield f"converted from pickle to safetensors: {text.join(converted)}"
    yield from _weight_lines(found)
    for cause, words in _LEFT_OUT.items():
        parts = [x for x in found.left_out if x.cause == cause]
        if parts:
            yield f"{words}: {_listed(parts)}"
    for cause, words in _CANNOT.items():
        parts = [x for x in found.left_out if x.cause == cause]
        if parts:
            yield f"{WARNING} left out, {words}: {text.join([x.path for x in parts], _SHOWN)}"
    if found.links:
        shown = [f"{x.path} -> {x.target}" for x in found.links]
        yield f"{WARNING} links lead out of the folder and were followed: {text.join(shown)}"
    if found.unmatched:
        yield f"{WARNING} nothing matches {text.join(found.unmatched)}"


def _weight_lines(found: Findings) -> Iterator[str]:
    for x in found.overlaid:
        if x.index != x.taken:
            said = f"the index says {text.cell(x.index)}" if x.index else "the index does not name it"
            yield (
                f"{WARNING} {text.cell(x.name)} is in several shards: {text.cell(x.taken)} counts, the last"
                f" that transformers reads; {said}"
            )
    agreed = [x.name for x in found.overlaid if x.index == x.taken]
    if agreed:
        yield f"in several shards, the index decides: {text.join(agreed)}"
    if found.unnamed:
        yield f"not named by the index, but in its shards: {text.join(found.unnamed)}"
    if found.unindexed:
        yield f"{WARNING} no index: the shards are read together, but transformers needs one to load them"
    if found.beside:
        yield f"weights beside the model, kept as they are: {text.join(found.beside)}"


def _listed(parts: Sequence[LeftOut]) -> str:
    largest = sorted(parts, key=lambda x: (-x.size, x.path))
    shown = ", ".join(f"{text.cell(x.path)} {text.size(x.size)}" for x in largest[:_SHOWN])
    rest = largest[_SHOWN:]
    return shown + (f" and {len(rest):,} more, {text.size(sum(x.size for x in rest))}" if rest else "")

"""How the tensors of a checkpoint differ by name and shape from those of a base."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.objects.model import Manifest


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a checkpoint is not a fine-tune of a base: tensors by name."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.shapes)

    def describe(self, limit: int = 3) -> str:
        """A clause for an error message."""
        parts = []
        for what, found in (
            ("has another shape", self.shapes),
            ("is missing", self.missing),
            ("is not in the base", self.extra),
        ):
            if found:
                more = f" and {len(found) - limit} more" if len(found) > limit else ""
                parts.append(f"{', '.join(found[:limit])}{more} {what}")
        return "; ".join(parts)


def mismatch(source: SourceCheckpoint, base: Manifest) -> Mismatch:
    """How names and shapes differ; rows may differ where the rest of the shape agrees."""
    old = base.primary
    new = {k: t for k, t in source.tensors.items() if "::" not in k}
    return Mismatch(
        missing=tuple(sorted(old.keys() - new.keys())),
        extra=tuple(sorted(new.keys() - old.keys())),
        shapes=tuple(
            f"{k} {list(new[k].shape)} (base {list(old[k].shape)})"
            for k in sorted(old.keys() & new.keys())
            if not _same_but_rows(new[k].shape, old[k].shape)
        ),
    )


def _same_but_rows(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """True if only rows differ; those of `final_logits_bias` [1, V] in BART are its second axis."""
    while len(ours) > 1 and ours[:1] == theirs[:1] == (1,):
        ours, theirs = ours[1:], theirs[1:]
    return len(ours) == len(theirs) and ours[1:] == theirs[1:]

"""How the tensors of a checkpoint differ by name and shape from those of a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltavcs.checkpoint.correspondence import Correspondence, Shaped, same_but_rows


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
        for one, many, found in (
            ("has another shape", "have other shapes", self.shapes),
            ("is missing", "are missing", self.missing),
            ("is not in the base", "are not in the base", self.extra),
        ):
            if found:
                more = f" and {len(found) - limit} more" if len(found) > limit else ""
                parts.append(f"{', '.join(found[:limit])}{more} {one if len(found) == 1 else many}")
        return "; ".join(parts)


def mismatch(ours: Mapping[str, Shaped], theirs: Mapping[str, Shaped], found: Correspondence) -> Mismatch:
    """How names and shapes differ; rows may differ where the rest of the shape agrees.

    Args:
        ours: the checkpoint's own tensors.
        theirs: the base's.
        found: which is which.
    """
    return Mismatch(
        missing=tuple(sorted(found.only_theirs)),
        extra=tuple(sorted(found.only_ours)),
        shapes=tuple(
            f"{k} {list(ours[k].shape)} (base {list(theirs[base].shape)})"
            for k, base in sorted(found.names.items())
            if not same_but_rows(ours[k].shape, theirs[base].shape)
        ),
    )

"""Quantised checkpoints as models: loaded with the quantiser that config.json names, or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from deltavcs.advice import Advice
from deltavcs.checkpoint.device import import_torch
from deltavcs.checkpoint.quantised import Quantisation, describe, quantisations_of, quantised_error
from deltavcs.checkpoint.view import View
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError, reason_of
from deltavcs.objects.store import ObjectStore


@contextlib.contextmanager
def loading_quantised(objects: ObjectStore, view: View, name: str) -> Iterator[None]:
    """Name the scheme if transformers cannot load a quantised checkpoint in the block.

    Raises:
        InvalidInputError: `quantised` if the quantiser is not installed or has no device here, or if the
            tensors are quantised and config.json does not tell: transformers would take the numbers for
            weights.
    """
    found = quantisations_of(objects, view)
    if not all(one.loadable for one in found):
        raise quantised_error(name, found)
    if any(_has_smaller_blocks(one, view) for one in found) and not import_torch().cuda.is_available():
        raise InvalidInputError(
            f"{name} is quantised ({describe(found)}) in blocks that do not divide its weights: without a GPU"
            " transformers takes the blocks for smaller ones",
            kind=ErrorKind.QUANTISED,
            advice=Advice.DEQUANTIZE,
        )
    try:
        yield
    except Exception as exc:  # each quantiser has exceptions of its own
        reason = exc.__cause__ if isinstance(exc, InvalidInputError) else exc
        if not found or not isinstance(reason, Exception) or isinstance(reason, DeltaVCSError):
            raise
        scheme = describe(found)
        raise InvalidInputError(
            f"{name} is quantised ({scheme}), and transformers cannot load it here: {reason_of(reason)}",
            kind=ErrorKind.QUANTISED,
            advice=Advice.USE_UNQUANTISED,
        ) from exc


def _has_smaller_blocks(how: Quantisation, view: View) -> bool:
    """True if the last blocks of a weight are smaller than the others; the grid does not tell."""
    for key, scaled in how.scaled.items():
        *_, rows, columns = (1, *view.tensors[key].shape)
        for size, block, count in zip(
            (rows, columns), (scaled.rows, scaled.columns), scaled.grid, strict=True
        ):
            if count > 1 and block * count != size:
                return True
    return False

"""Quantised checkpoints as models: loaded with the quantiser that config.json names, or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import describe, quantisations_of, quantised_error
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
        raise quantised_error(name, found, Advice.DEQUANTIZE)
    try:
        yield
    except Exception as exc:  # each quantiser has exceptions of its own
        if not found or isinstance(exc, DeltaVCSError):
            raise
        scheme = describe(found)
        raise InvalidInputError(
            f"{name} is quantised ({scheme}), and transformers cannot load it here: {reason_of(exc)}",
            kind=ErrorKind.QUANTISED,
            advice=Advice.USE_UNQUANTISED,
        ) from exc

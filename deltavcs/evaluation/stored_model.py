"""Stored tensors into a loaded model, in place: only what differs is decoded, one conversion at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from deltavcs.checkpoint.materialize import load_tensors
from deltavcs.checkpoint.view import Content
from deltavcs.errors import ErrorKind, InternalError
from deltavcs.evaluation.swap import Exchange
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch


class StoredModel:
    """A model on a device whose weights are exchanged for those of other checkpoints.

    Between two fine-tunes of one base, tensors that neither changed (embeddings, frozen layers) are neither
    decoded nor copied; a parameter that is put together from several (the experts of a layer) is, if one of
    them changed. Not thread-safe.

    Args:
        model: a transformers model without adapters.
        loaded: what the model holds.

    Attributes:
        model: the model.

    Raises:
        InvalidInputError: `incompatible` if names are not the model's.
    """

    def __init__(
        self, objects: ObjectStore, model: Any, resources: Resources, *, loaded: Mapping[str, Content]
    ) -> None:
        self.model = model
        self._objects = objects
        self._resources = resources
        self._exchange = Exchange(model, loaded)
        self._names = loaded.keys()
        self._blobs: dict[str, BlobId | None] = {k: c.blob for k, c in loaded.items()}

    def load(self, contents: Mapping[str, Content]) -> int:
        """Exchange the weights; gives back how many tensors were decoded.

        Raises:
            InvalidInputError: `incompatible` if names or shapes are not the model's; the model may then hold
                a mixture, and the next call loads everything.
            IntegrityError: stored data is damaged; likewise.
        """
        known, self._blobs = self._blobs, {}
        if contents.keys() != self._names:
            self._exchange, self._names, known = Exchange(self.model, contents), contents.keys(), {}
        changed = {k for k, c in contents.items() if c.blob is None or known.get(k) != c.blob}
        wanted = self._exchange.affected(changed)
        if wanted:
            pairs = [(name, contents[name]) for name in wanted]
            stream = load_tensors(self._objects, pairs, device="cpu", resources=self._resources)
            with closing(cast("Generator[tuple[str, torch.Tensor]]", stream)):
                self._exchange.write(lambda name: _take(stream, name), frozenset(wanted))
        self._blobs = {k: c.blob for k, c in contents.items()}
        return len(wanted)


def _take(stream: Iterator[tuple[str, torch.Tensor]], wanted: str) -> torch.Tensor:
    """The next tensor of the stream, which is `wanted`."""
    name, tensor = next(stream)
    if name != wanted:
        raise InternalError(f"{wanted} was asked for out of order", kind=ErrorKind.BUG)
    return tensor

"""Stored tensors into a loaded model, in place: only what differs is decoded, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from deltavcs.checkpoint.materialize import load_tensors
from deltavcs.checkpoint.view import Content
from deltavcs.errors import ErrorKind, InternalError
from deltavcs.evaluation.swap import swap
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.resources import Resources

if TYPE_CHECKING:
    import torch


class StoredModel:
    """A model on a device whose weights are exchanged for those of other checkpoints.

    Between two fine-tunes of one base, tensors that neither changed (embeddings, frozen layers) are neither
    decoded nor copied. Not thread-safe.

    Args:
        model: a transformers model; with PEFT adapters, only the adapter is exchanged.
        loaded: what the model holds, if that is known.

    Attributes:
        model: the model.
    """

    def __init__(
        self,
        objects: ObjectStore,
        model: Any,
        resources: Resources,
        *,
        loaded: Mapping[str, Content] | None = None,
    ) -> None:
        self.model = model
        self._objects = objects
        self._resources = resources
        self._names = frozenset(loaded or ())
        self._blobs: dict[str, BlobId | None] = {k: c.blob for k, c in (loaded or {}).items()}

    def load(self, contents: Mapping[str, Content]) -> int:
        """Exchange the weights; gives back how many tensors were copied.

        Raises:
            InvalidInputError: `incompatible` if names or shapes are not the model's; the model may then hold
                a mixture, and the next call loads everything.
            IntegrityError: stored data is damaged; likewise.
        """
        known, self._blobs = self._blobs, {}
        complete = self._names == contents.keys()
        news = {k: c for k, c in contents.items() if not complete or c.blob is None or known.get(k) != c.blob}
        if news:
            stream = load_tensors(self._objects, news.items(), device="cpu", resources=self._resources)
            try:
                take = partial(_take, iter(stream))
                state: dict[str, torch.Tensor | Callable[[], torch.Tensor]] = {
                    k: partial(take, k) for k in news
                }
                swap(self.model, state, strict=not complete or not known)
            finally:
                close = getattr(stream, "close", None)
                if close is not None:
                    close()
        self._names = frozenset(contents)
        self._blobs = {k: c.blob for k, c in contents.items()}
        return len(news)


def _take(stream: Any, wanted: str) -> torch.Tensor:
    """The next tensor called `wanted`; those before it were not asked for."""
    for name, tensor in stream:
        if name == wanted:
            found: torch.Tensor = tensor
            return found
    raise InternalError(f"{wanted} was asked for out of order", kind=ErrorKind.BUG)

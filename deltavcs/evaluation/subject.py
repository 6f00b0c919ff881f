"""A checkpoint as something to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltavcs.checkpoint.view import Content, View, view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.architecture import whole_keys
from deltavcs.objects.model import Kind, Role
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import CommitId


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint to be run.

    Attributes:
        name: for messages.
        model_key: subjects of one key run in one model instance.
        frame: the whole checkpoint that gives architecture and, for an adapter, the weights below it.
        contents: the tensors that are exchanged: all of them, or the adapter's.
        adapter: the adapter, if it is one.
        tokenizers: views to look for a tokenizer in, in order.
    """

    name: str
    model_key: str
    frame: View
    contents: Mapping[str, Content]
    adapter: View | None
    tokenizers: tuple[View, ...]


def subject_of(objects: ObjectStore, commit: CommitId, name: str, *, model_key: str | None = None) -> Subject:
    """A commit as something to run.

    Args:
        name: for messages.
        model_key: what `whole_keys` says, if that is known; see `Subject`.

    Raises:
        InvalidInputError: `bad-checkpoint` without a config.json, or for an adapter without a base.
    """
    value = objects.get_commit(commit)
    manifest = objects.get_manifest(value.manifest)
    view, base = view_of(manifest), value.parent_as(Role.BASE)
    below = view_of(objects.get_manifest(objects.get_commit(base).manifest)) if base is not None else None
    if value.kind is Kind.ADAPTER:
        if below is None:
            raise InvalidInputError(f"{name} is an adapter without a base", kind=ErrorKind.BAD_CHECKPOINT)
        return Subject(name, model_key or commit, below, view.primary, view, (view, below))
    key = model_key or whole_keys(objects, manifest)[1]
    return Subject(name, key, view, view.primary, None, (view, below) if below else (view,))

"""The samples of a task as the tokenizer of each checkpoint sees them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from deltavcs.checkpoint.side_files import follows_finetune, holds_tokenizer
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.evaluation.encode import (
    Sample,
    check_ids,
    context_length,
    encode_examples,
    pad_token,
    positions_of,
)
from deltavcs.evaluation.subject import Subject
from deltavcs.evaluation.tokenizers import load_tokenizer_of
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.skeleton import quiet
from deltavcs.tasks.template import Example


class Prompts:
    """Samples tokenized as each checkpoint's own tokenizer does it, once per tokenizer. Thread-safe."""

    def __init__(self, objects: ObjectStore, examples: Sequence[Example]) -> None:
        self._objects = objects
        self._examples = examples
        self._known: dict[tuple[object, ...], tuple[list[Sample], int]] = {}
        self._lock = threading.Lock()

    def samples(self, subject: Subject, model: Any) -> tuple[list[Sample], int]:
        """Samples and padding token for a subject.

        Raises:
            InvalidInputError: `bad-checkpoint` if neither it nor its base has a tokenizer.
            MissingDependencyError: transformers is not installed.
        """
        view = next((v for v in subject.tokenizers if _tokenizer_files(v)), None)
        if view is None:
            raise InvalidInputError(
                f"{subject.name} has no tokenizer, and neither has its base", kind=ErrorKind.BAD_CHECKPOINT
            )
        key = (*_tokenizer_files(view), positions_of(model))
        with self._lock:
            if key not in self._known:
                self._known[key] = self._encode(view, model)
            samples, pad_id = self._known[key]
        n_rows = model.get_input_embeddings().weight.shape[0]
        check_ids(samples, n_rows, name=subject.name)
        # Padding is masked: any row will do where a padding token was added and the model never resized.
        return samples, pad_id if pad_id < n_rows else 0

    def _encode(self, view: View, model: Any) -> tuple[list[Sample], int]:
        tokenizer = load_tokenizer_of(self._objects, view)
        limit = context_length(model, tokenizer)
        with quiet():
            return encode_examples(self._examples, tokenizer, max_length=limit), pad_token(tokenizer)


def _tokenizer_files(view: View) -> tuple[tuple[str, str | None], ...]:
    plain = ((f.path, f.blob) for f in view.files if f.keys is None)
    files = tuple((path, blob) for path, blob in plain if follows_finetune(path))
    if not holds_tokenizer(path for path, _ in files):
        return ()
    return files

"""Which tensors of a checkpoint have one row for each token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deltavcs.checkpoint.layout import is_vocabulary
from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.skeleton import skeleton_of
from deltavcs.skeleton.vocabulary import ConfigPath, vocabulary_of
from deltavcs.skeleton.weight_names import match_names


@dataclass(frozen=True)
class VocabularyTensors:
    """The tensors of a checkpoint that grow with its vocabulary.

    Attributes:
        axes: name on disk → the axis of its rows; 0 but for tensors such as BART's `final_logits_bias` [1, V].
        rows: name on disk → how many rows config.json asks for; empty if names alone decided.
        settings: where config.json says how many there are.
        config: all settings as transformers reads them.
        guessed: None if the model itself told; else why it could not, and names alone decided.
    """

    axes: Mapping[str, int]
    rows: Mapping[str, int] = field(default_factory=dict)
    settings: tuple[ConfigPath, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    guessed: str | None = None


def vocabulary_tensors(names: Iterable[str], config_json: bytes | None) -> VocabularyTensors:
    """Find the tensors that grow with the vocabulary of a checkpoint.

    The model that config.json describes tells them (`deltavcs.skeleton.vocabulary`). Where there is none, or
    transformers does not know it, they are guessed by the names that common families give them.

    Args:
        names: of the checkpoint's own tensors, on disk.
        config_json: the checkpoint's; None if it has none.
    """
    names = list(names)
    if config_json is None:
        return _guess(names, "there is no config.json")
    try:
        vocabulary, skeleton = vocabulary_of(config_json), skeleton_of(config_json)
    except InvalidInputError as exc:
        return _guess(names, str(exc))
    in_memory = match_names(skeleton, names).in_memory()
    axes = {n: vocabulary.axes[m] for n, m in in_memory.items() if m in vocabulary.axes}
    rows = {n: skeleton.shapes[in_memory[n]][axis] for n, axis in axes.items()}
    return VocabularyTensors(axes, rows, vocabulary.settings, skeleton.config.to_dict())


def added_rows(vocabulary: VocabularyTensors, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many more rows than config.json asks for the tensors of a vocabulary have: the most of all of them.

    Args:
        shapes: name on disk → shape, of the tensors that `vocabulary` was found among.
    """
    more = [
        shapes[name][axis] - vocabulary.rows[name]
        for name, axis in vocabulary.axes.items()
        if len(shapes[name]) > axis
    ]
    return max(more, default=0)


def _guess(names: Iterable[str], reason: str) -> VocabularyTensors:
    return VocabularyTensors({n: 0 for n in names if is_vocabulary(n)}, guessed=reason)

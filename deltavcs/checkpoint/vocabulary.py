"""Which tensors of a checkpoint have one row for each token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
        settings: where config.json says how many there are.
        guessed: None if the model itself told; else why it could not, and names alone decide.
    """

    axes: Mapping[str, int]
    settings: tuple[ConfigPath, ...] = (("vocab_size",),)
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
    return VocabularyTensors(axes, vocabulary.settings)


def _guess(names: Iterable[str], reason: str) -> VocabularyTensors:
    return VocabularyTensors({n: 0 for n in names if is_vocabulary(n)}, guessed=reason)

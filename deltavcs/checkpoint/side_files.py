"""Files beside the weights that belong together: tokenizer and processor. By name, without transformers.

The exact names are those of transformers' own tables (`vocab_files_names` of every tokenizer, the constants
of `transformers.utils`); a test compares them. The patterns are for what other tools read and write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

GENERATION_CONFIG = "generation_config.json"
_TEMPLATES_FOLDER = "additional_chat_templates"

_VOCABULARIES = frozenset(
    "tokenizer.json vocab.json merges.txt vocab.txt spiece.model sentencepiece.bpe.model tokenizer.model"
    " bpe.codes entity_vocab.json prophetnet.tokenizer dict.txt sentencepiece.model spm_char.model"
    " vocab-src.json vocab-tgt.json source.spm target.spm target_vocab.json spm.model tekken.json"
    " encoder.json".split()
)
_SETTINGS = frozenset(
    "tokenizer_config.json special_tokens_map.json added_tokens.json chat_template.json".split()
)
_PROCESSORS = frozenset(
    "preprocessor_config.json processor_config.json video_preprocessor_config.json"
    " image_processor_config.json audio_tokenizer_config.json".split()
)
_VOCABULARY = re.compile(
    r".+\.(?:model|model\.v\d+\w*|spm|tiktoken|bpe|codes|vocab|tokenizer)\Z"
    r"|(?:.+[._-])?(?:vocab|vocabulary|merges)(?:[._-][\w.-]+)?\.(?:jsonl?|txt|pkl)\Z"
    r"|tokenizer[._-][\w.-]+\.json\Z|tokenizer\.(?:json\.gz|bin|pkl)\Z|tekken[\w.-]*\.json\Z"
    r"|(?:vocab|bpecodes|tokens\.(?:txt|json)|unigram\.json|wordpieces?\.txt)\Z"
)
# Tables and texts that go with a vocabulary and are none.
_TABLES = frozenset(
    "normalizer.json emoji.json byte_maps.json word_shape.json word_pronunciation.json special_tokens.json"
    " lang2id.json SYSTEM_PROMPT.txt".split()
)
_SETTING = re.compile(r"chat_template[\w.-]*\.json\Z|.+\.jinja2?\Z|\w*tokeni[sz](?:ation|er)\w*\.py\Z")
_PROCESSOR = re.compile(
    r"(?:\w+_)?(?:processing|processor|feature_extract(?:ion|or))\w*\.py\Z"
    r"|(?:\w+_)?(?:pre)?processor(?:_config)?\.json\Z|feature_extractor\.json\Z"
)


class SideRole(StrEnum):
    """What a file beside the weights is part of.

    `vocabulary` and `settings` are the tokenizer; only with a vocabulary is it whole.
    """

    VOCABULARY = "vocabulary"
    SETTINGS = "settings"
    PROCESSOR = "processor"
    GENERATION = "generation"


def side_role(path: str) -> SideRole | None:
    """The set that a plain file belongs to, by its name; None for any other file."""
    pure = PurePosixPath(path)
    name = pure.name
    if pure.parent.name == _TEMPLATES_FOLDER or name in _SETTINGS | _TABLES or _SETTING.match(name):
        return SideRole.SETTINGS
    if name == GENERATION_CONFIG:
        return SideRole.GENERATION
    if name in _PROCESSORS or _PROCESSOR.match(name):
        return SideRole.PROCESSOR
    if name in _VOCABULARIES or _VOCABULARY.match(name):
        return SideRole.VOCABULARY
    return None


def follows_finetune(path: str) -> bool:
    """True for what decides how text becomes tokens and what ends it: tokenizer, template, generation."""
    return side_role(path) not in (None, SideRole.PROCESSOR)


def holds_tokenizer(paths: Iterable[str]) -> bool:
    """True if there is a tokenizer among the files, and not only a template or ids around one."""
    return any(
        side_role(path) is SideRole.VOCABULARY or PurePosixPath(path).name == "tokenizer_config.json"
        for path in paths
    )


@dataclass(frozen=True, slots=True)
class SideChoice:
    """Which of these files a checkpoint gets that is made from a leading one and a fine-tune.

    Attributes:
        taken: of the fine-tune.
        dropped: of the leading checkpoint, because the fine-tune's set is whole without them.
        left_out: of the fine-tune, because its set is not whole: the leading one's is kept.
        tokenizer: whose tokenizer it is, by folder (`` is the top): `finetune` or `target`.
    """

    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    left_out: tuple[str, ...]
    tokenizer: Mapping[str, str]

    @property
    def follows(self) -> bool:
        """True if the tokenizer at the top is the fine-tune's."""
        return self.tokenizer.get("") == "finetune"


def choose_side_files(lead: Iterable[str], finetune: Iterable[str]) -> SideChoice:
    """Take tokenizer, processor and generation files, each as a set from one of two checkpoints.

    Folder by folder: the fine-tune's tokenizer if it has one there, else the leading checkpoint's; never a
    file of the one beside a file of the other. Processor files go with it, as `AutoProcessor` loads them,
    where the fine-tune has any; a fine-tune saved with its tokenizer alone keeps the leading one's.

    Args:
        lead, finetune: paths of their plain files.
    """
    ours, theirs = _sets(finetune), _sets(lead)
    taken: list[str] = []
    dropped: list[str] = []
    left_out: list[str] = []
    owner: dict[str, str] = {}
    for folder in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(folder, {}), theirs.get(folder, {})
        whole = _is_whole(mine, other)
        settings = [*mine.get("tokenizer", ())]
        if settings or other.get("tokenizer"):
            owner[folder] = "finetune" if whole else "target"
        if not whole:
            left_out += settings
        for part, replaced in (
            ("tokenizer", whole),
            ("processor", bool(mine.get("processor"))),
            ("generation", whole or bool(mine.get("generation"))),
        ):
            if replaced:
                taken += mine.get(part, ())
                dropped += [p for p in other.get(part, ()) if p not in mine.get(part, ())]
    return SideChoice(tuple(sorted(taken)), tuple(sorted(dropped)), tuple(sorted(left_out)), owner)


def _is_whole(ours: Mapping[str, list[str]], theirs: Mapping[str, list[str]]) -> bool:
    """True if the fine-tune's files are a tokenizer: with a vocabulary, or as good as the other's without."""
    mine, other = ours.get("tokenizer", []), theirs.get("tokenizer", [])
    if not holds_tokenizer(mine):
        return bool(mine) and not other
    return _has_vocabulary(mine) or not _has_vocabulary(other)


def _has_vocabulary(paths: Iterable[str]) -> bool:
    return any(side_role(path) is SideRole.VOCABULARY for path in paths)


def _sets(paths: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Side files by folder and set."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        role = side_role(path)
        if role is None:
            continue
        parent = PurePosixPath(path).parent
        folder = parent.parent if parent.name == _TEMPLATES_FOLDER else parent
        part = "tokenizer" if role in (SideRole.VOCABULARY, SideRole.SETTINGS) else role.value
        key = "" if str(folder) == "." else str(folder)
        found.setdefault(key, {}).setdefault(part, []).append(path)
    return found

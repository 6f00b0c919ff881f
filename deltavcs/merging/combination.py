"""Sums of checkpoints as views: transfers, task arithmetic, averages (DESIGN: derived tensors).

`float64(m_t) + λ·(float64(m'_s) − float64(m_s))`, rounded once to the dtype of m_t: fine-tuning
transfer (Lin et al.). Rows that a base's embedding or head lacks count as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.layout import follows_finetune, is_vocabulary
from deltavcs.checkpoint.matching import match_manifests
from deltavcs.checkpoint.patching import resized_files
from deltavcs.checkpoint.view import Content, View, ViewFile, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.operators.parse import encode_program
from deltavcs.tensors.dtypes import dtype_of, n_elements
from deltavcs.tensors.programs import Token


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Which tensors took part, by key of the leading checkpoint.

    Attributes:
        matched: combined element by element (includes the padded, renamed and converted ones).
        padded: with other numbers of rows, e.g. `embed (32000 + 8 rows)`.
        missing: kept from the leading checkpoint because another one lacks them.
        extra: tensors of another checkpoint that the leading one lacks; left out.
        renamed: `key ← key of the other`.
        converted: with several dtypes, `key (F32 → BF16)`.
        copied: no arithmetic (integers, booleans); kept from the leading checkpoint.
    """

    matched: tuple[str, ...]
    padded: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    renamed: tuple[str, ...]
    converted: tuple[str, ...]
    copied: tuple[str, ...]

    __repr__ = brief


@dataclass(slots=True)
class _Draft:
    matched: list[str] = field(default_factory=list)
    padded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def freeze(self, extra: Sequence[str]) -> Compatibility:
        return Compatibility(
            tuple(self.matched),
            tuple(self.padded),
            tuple(self.missing),
            tuple(extra),
            tuple(self.renamed),
            tuple(self.converted),
            tuple(self.copied),
        )


@dataclass(frozen=True, slots=True)
class Combination:
    """A combined checkpoint.

    Attributes:
        view: what it is.
        compatibility: which tensors took part.
        triples: per matched key the tensors of all operands, in order.
    """

    view: View
    compatibility: Compatibility
    triples: Mapping[str, tuple[TensorEntry, ...]]


def combine(
    objects: ObjectStore,
    program: Sequence[Token],
    operands: Sequence[Manifest],
    *,
    is_transfer: bool,
    vocab: str = "pad",
) -> Combination:
    """Combine checkpoints by a postfix program over their positions.

    Args:
        program: as `Expression.program`.
        operands: manifests; the first leads: its names, dtypes, shards and config are the result's.
        is_transfer: the program is `0 + λ * (1 - 2)`. Missing tensors are then kept from the target,
            rows are padded, and tokenizer and generation files come from operand 1.
        vocab: `pad` or `strict`.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if names or shapes do not allow it.
    """
    lead = operands[0]
    tables = [m.primary for m in operands]
    lookups = [_names_in(objects, lead, m) for m in operands]
    draft = _Draft()
    tensors: dict[str, Content] = {k: Content(t.dtype, t.shape, blob=t.blob) for k, t in lead.tensors.items()}
    triples: dict[str, tuple[TensorEntry, ...]] = {}
    for key in tables[0]:
        found = [table.get(lookup.get(key, "")) for table, lookup in zip(tables, lookups, strict=True)]
        entries = [t for t in found if t is not None]
        if len(entries) < len(found):
            draft.missing.append(key)
        elif not dtype_of(entries[0].dtype).arithmetic:
            draft.copied.append(key)
        else:
            renamed = [lookup[key] for lookup in lookups if lookup[key] != key]
            content = _combine_one(key, entries, program, draft, is_transfer=is_transfer, vocab=vocab)
            if content is not None:
                tensors[key] = content
                triples[key] = tuple(entries)
                draft.renamed += [f"{key} ← {renamed[0]}"] if renamed else []
    extra = _extras(lookups, operands)
    _check(draft, extra, is_transfer=is_transfer)
    view = with_tensors(objects, view_of(lead), tensors)
    if is_transfer:
        view = replace_files(view, _finetune_files(operands[1]), drop=_dropped(lead, operands[1]))
    if draft.padded:
        view = replace_files(view, resized_files(objects, view, lead))
    return Combination(view, draft.freeze(extra), triples)


def _combine_one(
    key: str,
    entries: Sequence[TensorEntry],
    program: Sequence[Token],
    draft: _Draft,
    *,
    is_transfer: bool,
    vocab: str,
) -> Content | None:
    shape = entries[0].shape
    rows = [t.shape[0] if t.shape else 1 for t in entries]
    inner = {t.shape[1:] for t in entries}
    if len(inner) > 1 or len({len(t.shape) for t in entries}) > 1:
        draft.wrong.append(f"{key} {' / '.join(str(list(t.shape)) for t in entries)}")
        return None
    limits = [n_elements(t.shape) for t in entries]
    if len(set(rows)) > 1:
        if not is_transfer or vocab == "strict" or not is_vocabulary(key):
            draft.wrong.append(f"{key} {' / '.join(str(list(t.shape)) for t in entries)}")
            return None
        # Δ has the fine-tune's rows: a row the source base lacks counts as zeros, one it has beyond
        # the fine-tune is no change.
        shape = (max(rows[0], rows[1]), *shape[1:])
        limits[2] = min(rows[1], rows[2]) * n_elements(shape[1:])
        draft.padded.append(f"{key} ({' / '.join(map(str, rows))} → {shape[0]} rows)")
    dtypes = sorted({t.dtype for t in entries} - {entries[0].dtype})
    if dtypes:
        if any(not dtype_of(d).arithmetic for d in dtypes):
            draft.wrong.append(f"{key} ({entries[0].dtype} and {', '.join(dtypes)})")
            return None
        draft.converted.append(f"{key} ({', '.join(dtypes)} → {entries[0].dtype})")
    draft.matched.append(key)
    operands = tuple(Operand(t.blob, n) for t, n in zip(entries, limits, strict=True))
    return Content(
        entries[0].dtype, shape, derivation=Derivation("linear", encode_program(program), operands)
    )


def _names_in(objects: ObjectStore, lead: Manifest, other: Manifest) -> Mapping[str, str]:
    """For each key of the leading checkpoint, the key of the same tensor in another one that has it."""
    if other is lead:
        return {k: k for k in lead.primary}
    return match_manifests(objects, lead, other).names


def _extras(lookups: Sequence[Mapping[str, str]], operands: Sequence[Manifest]) -> list[str]:
    extra: dict[str, None] = {}
    for lookup, manifest in zip(lookups, operands, strict=True):
        extra.update(dict.fromkeys(sorted(manifest.primary.keys() - set(lookup.values()))))
    return list(extra)


def _check(draft: _Draft, extra: Sequence[str], *, is_transfer: bool) -> None:
    # A PEFT model saved whole: its weights are those from before the training.
    wrong = [*draft.wrong, *(f"{k} was not merged into its weight" for k in extra if ".lora_" in k)]
    if not is_transfer:
        wrong += [f"{k} is not in all of them" for k in (*draft.missing, *extra)]
    if wrong or not draft.matched:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        shown = shown or "no tensor has the same name, their architectures differ"
        raise InvalidInputError(
            f"the checkpoints do not fit together: {shown}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.COMPARE_ROWS if wrong else None,
        )


def _finetune_files(finetune: Manifest) -> dict[str, ViewFile]:
    """Tokenizer, chat template and generation files of the fine-tune."""
    return {
        f.path: ViewFile(f.path, f.size, f.blob, None, None, f.executable)
        for f in finetune.files
        if f.tensors is None and follows_finetune(f.path)
    }


def _dropped(lead: Manifest, finetune: Manifest) -> list[str]:
    """The target's tokenizer files, if the fine-tune brings a tokenizer of its own."""
    ours = _finetune_files(finetune)
    if not any("token" in p or p.startswith("vocab") for p in ours):
        return []
    return [f.path for f in lead.files if follows_finetune(f.path) and f.path not in ours]

"""Sums of checkpoints as views: transfers, task arithmetic, averages (DESIGN: derived tensors).

`float64(m_t) + λ·(float64(m'_s) − float64(m_s))`, rounded once to the dtype of m_t: fine-tuning
transfer (Lin et al.). Rows that a base's embedding or head lacks count as zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.patching import resized_files, untied_files
from deltavcs.checkpoint.token_ids import other_tokens
from deltavcs.checkpoint.view import Content, View, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.carried_files import CarriedFiles, carry_files, check_config
from deltavcs.merging.counterparts import Counterparts, MergeInput, find_counterparts
from deltavcs.merging.padding import Padding, grown
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
        padded: with other numbers of rows, e.g. `embed (32000 / 32008 / 32000 → 32008 rows)`.
        shared_rows: padded, with rows that both the target and the fine-tune have and the source lacks: where
            both put other tokens there, their embeddings are added up.
        bare_rows: padded, with rows that the target lacks and both others have: they hold the difference
            alone.
        guessed: padded because of their names alone, with the reason why the model could not tell.
        other_tokens: target and fine-tune, if their tokenizers give the same ids to other tokens: the rows
            of these are added up.
        missing: kept from the leading checkpoint because another one lacks them.
        extra: tensors of another checkpoint that the leading one lacks; left out.
        added: tensors that the fine-tune alone has, such as a classifier; carried over whole, with its
            config.json.
        renamed: `key ← key of the other`.
        converted: with several dtypes, `key (F32 → BF16)`.
        copied: no arithmetic (integers, booleans); kept from the leading checkpoint.
        apart: weights outside the checkpoint's own tensors that took no part, by component or file.
        filled, untied, ignored: see `deltavcs.merging.counterparts.Adjusted`.
    """

    matched: tuple[str, ...]
    padded: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    renamed: tuple[str, ...]
    converted: tuple[str, ...]
    copied: tuple[str, ...]
    apart: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    untied: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    shared_rows: tuple[str, ...] = ()
    bare_rows: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    other_tokens: tuple[str, ...] = ()

    __repr__ = brief


@dataclass(slots=True)
class _Draft:
    matched: list[str] = field(default_factory=list)
    padded: list[str] = field(default_factory=list)
    shared_rows: list[str] = field(default_factory=list)
    bare_rows: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def freeze(
        self, found: Counterparts, added: Mapping[str, object], other_tokens: Sequence[str]
    ) -> Compatibility:
        adjusted = found.adjusted
        return Compatibility(
            matched=tuple(self.matched),
            padded=tuple(self.padded),
            missing=found.missing,
            extra=tuple(k for k in found.extra if k not in added),
            added=tuple(added),
            renamed=adjusted.renamed,
            converted=tuple(self.converted),
            copied=tuple(self.copied),
            apart=found.apart,
            filled=adjusted.filled,
            untied=adjusted.untied,
            ignored=adjusted.ignored,
            shared_rows=tuple(self.shared_rows),
            bare_rows=tuple(self.bare_rows),
            guessed=tuple(self.guessed),
            other_tokens=tuple(other_tokens),
        )


@dataclass(frozen=True, slots=True)
class Combination:
    """A combined checkpoint.

    Attributes:
        view: what it is.
        compatibility: which tensors took part.
        triples: per matched key the tensors of all operands, in order.
        carried: whose plain files it has; of a transfer.
    """

    view: View
    compatibility: Compatibility
    triples: Mapping[str, tuple[TensorEntry, ...]]
    carried: CarriedFiles | None = None


def combine(
    objects: ObjectStore,
    program: Sequence[Token],
    operands: Sequence[MergeInput],
    *,
    is_transfer: bool,
    vocab: str = "pad",
    config: str = "target",
) -> Combination:
    """Combine checkpoints by a postfix program over their positions, component by component.

    Args:
        program: as `Expression.program`.
        operands: the first leads: its names, dtypes, shards and config are the result's.
        is_transfer: the program is `0 + λ * (1 - 2)`. Missing tensors are then kept from the target,
            rows are padded, and tokenizer and generation files come from operand 1.
        vocab: `pad` or `strict`.
        config: whose config.json a transfer has: `target` or `finetune`.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if names or shapes do not allow it.
    """
    lead = operands[0].manifest
    found = find_counterparts(objects, operands)
    if is_transfer:
        check_depth(operands, found)
    draft = _Draft()
    tensors: dict[str, Content] = {k: Content(t.dtype, t.shape, blob=t.blob) for k, t in lead.tensors.items()}
    triples: dict[str, tuple[TensorEntry, ...]] = {}
    names = [*dict.fromkeys([*found.rows, *lead.tensors])]
    padding = Padding(objects, lead, names) if is_transfer and vocab == "pad" else None
    for key, entries in found.complete().items():
        if not dtype_of(entries[0].dtype).arithmetic:
            draft.copied.append(key)
            continue
        content = _combine_one(key, entries, program, draft, padding)
        if content is not None:
            tensors[key] = content
            triples[key] = entries
    if draft.padded and padding is not None:
        kept = (k for k in found.adjusted.ignored if k in lead.primary and padding.grows(k))
        draft.wrong += [f"{k} would grow with the vocabulary, and is not in all of them" for k in kept]
    _check(draft, found, lead, is_transfer=is_transfer)
    theirs = is_transfer and config == "finetune"
    added = _added(found, operands) if theirs else {}
    beside = {**found.beside, **dict.fromkeys(added, next(reversed(lead.primary), ""))}
    view = with_tensors(objects, view_of(lead), {**tensors, **added}, beside=beside)
    carried = None
    if is_transfer:
        view, carried = carry_files(objects, view, *(o.manifest for o in operands), config=config)
    if draft.padded or added:
        view = replace_files(view, resized_files(objects, view, operands[theirs].manifest))
    if found.parted or theirs:
        view = replace_files(view, untied_files(objects, view))
    if theirs:
        check_config(objects, view, lead)
    others = other_tokens(objects, [(o.name, o.manifest) for o in operands[:2]]) if is_transfer else ()
    return Combination(view, draft.freeze(found, added, others), triples, carried)


def _added(found: Counterparts, operands: Sequence[MergeInput]) -> dict[str, Content]:
    """What a fine-tune has beyond both bases: neither says what it started from, so it is taken whole."""
    target, tuned, source = (o.manifest.primary for o in operands)
    keys = [k for k in found.extra if target and k in tuned and k not in source]
    return {k: Content(tuned[k].dtype, tuned[k].shape, blob=tuned[k].blob) for k in keys}


def _combine_one(
    key: str,
    entries: Sequence[TensorEntry],
    program: Sequence[Token],
    draft: _Draft,
    padding: Padding | None,
) -> Content | None:
    shape = entries[0].shape
    limits = [n_elements(t.shape) for t in entries]
    if len({t.shape for t in entries}) > 1:
        axis = padding.axis(key, [t.shape for t in entries]) if padding is not None else None
        if padding is None or axis is None:
            draft.wrong.append(f"{key} {' / '.join(str(list(t.shape)) for t in entries)}")
            return None
        rows = [t.shape[axis] for t in entries]
        # Δ has the fine-tune's rows: a row the source base lacks counts as zeros, one it has beyond
        # the fine-tune is no change.
        shape = grown(shape, axis, max(rows[:2]))
        limits[2] = min(rows[1], rows[2]) * n_elements(shape[axis + 1 :])
        draft.padded.append(f"{key} ({' / '.join(map(str, rows))} → {shape[axis]} rows)")
        if rows[2] < min(rows[:2]):
            draft.shared_rows.append(f"{key} (rows {rows[2]} to {min(rows[:2]) - 1})")
        if rows[0] < min(rows[1:]):
            draft.bare_rows.append(f"{key} (rows {rows[0]} to {min(rows[1:]) - 1})")
        draft.guessed += [f"{key} ({padding.guessed})"] if padding.guessed is not None else []
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


_BLOCK = re.compile(r"(?P<stack>.*?)\.(?P<number>\d+)\.")


def check_depth(operands: Sequence[MergeInput], found: Counterparts) -> None:
    """Refuse a transfer between models of other depths, whose layers have the same number by chance at best.

    Raises:
        InvalidInputError: `incompatible`, naming a layer that one of them lacks.
    """
    whole = found.complete()
    stacks = {m["stack"] for k in whole if (m := _BLOCK.match(k))}
    blocks = {m[0] for k in whole if (m := _BLOCK.match(k))}
    for key in (*found.missing, *found.extra):
        block = _BLOCK.match(key)
        if block is None or block["stack"] not in stacks or block[0] in blocks:
            continue
        has, lacks = _owners(key, operands)
        raise InvalidInputError(
            f"the checkpoints do not fit together: {', '.join(has)} has {block[0].rstrip('.')}, and"
            f" {', '.join(lacks)} does not: they have other numbers of layers",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.SAME_DEPTH,
        )


def _owners(key: str, operands: Sequence[MergeInput]) -> tuple[list[str], list[str]]:
    """Who has a tensor of this name, and who has none."""
    has = [o.name for o in operands if key in o.manifest.tensors]
    return has, [o.name for o in operands if o.name not in has]


def _check(draft: _Draft, found: Counterparts, lead: Manifest, *, is_transfer: bool) -> None:
    # A PEFT model saved whole: its weights are those from before the training.
    wrong = [*draft.wrong, *(f"{k} was not merged into its weight" for k in found.extra if ".lora_" in k)]
    if not is_transfer:
        wrong += [f"{k} is not in all of them" for k in (*found.missing, *found.extra)]
    elif lead.primary and draft.matched and all("::" in k for k in draft.matched):
        wrong.append(f"of the model itself no tensor meets another, only {draft.matched[0]} and its like do")
    if wrong or not draft.matched:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        shown = shown or "no tensor has the same name, their architectures differ"
        raise InvalidInputError(
            f"the checkpoints do not fit together: {shown}",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.COMPARE_ROWS if wrong else None,
        )

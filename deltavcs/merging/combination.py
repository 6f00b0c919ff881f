"""Sums of checkpoints as views: transfers, task arithmetic, averages (DESIGN: derived tensors).

`float64(m_t) + λ·(float64(m'_s) − float64(m_s))`, rounded once to the dtype of m_t: fine-tuning
transfer (Lin et al.). Rows that a base's embedding or head lacks count as zeros.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.components import component_of, match_components, own_name, weights_apart
from deltavcs.checkpoint.layout import is_vocabulary
from deltavcs.checkpoint.patching import resized_files
from deltavcs.checkpoint.view import Content, View, replace_files, view_of, with_tensors
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.carried_files import CarriedFiles, carry_files, check_config
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.operators.parse import encode_program
from deltavcs.tensors.dtypes import dtype_of, n_elements
from deltavcs.tensors.programs import Token

_MAX_PREFIXES = 64


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
        apart: weights outside the checkpoint's own tensors that took no part, by component or file.
    """

    matched: tuple[str, ...]
    padded: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    renamed: tuple[str, ...]
    converted: tuple[str, ...]
    copied: tuple[str, ...]
    apart: tuple[str, ...] = ()

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

    def freeze(self, meeting: _Meeting) -> Compatibility:
        return Compatibility(
            tuple(self.matched),
            tuple(self.padded),
            tuple(self.missing),
            meeting.extra,
            tuple(self.renamed),
            tuple(self.converted),
            tuple(self.copied),
            meeting.apart,
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
    operands: Sequence[Manifest],
    *,
    is_transfer: bool,
    vocab: str = "pad",
    config: str = "target",
) -> Combination:
    """Combine checkpoints by a postfix program over their positions, component by component.

    Args:
        program: as `Expression.program`.
        operands: manifests; the first leads: its names, dtypes, shards and config are the result's.
        is_transfer: the program is `0 + λ * (1 - 2)`. Missing tensors are then kept from the target,
            rows are padded, and tokenizer and generation files come from operand 1.
        vocab: `pad` or `strict`.
        config: whose config.json a transfer has: `target` or `finetune`.

    Raises:
        InvalidInputError: `incompatible`, naming tensors, if names or shapes do not allow it.
    """
    lead = operands[0]
    meeting = _meet(operands)
    draft = _Draft()
    tensors: dict[str, Content] = {k: Content(t.dtype, t.shape, blob=t.blob) for k, t in lead.tensors.items()}
    triples: dict[str, tuple[TensorEntry, ...]] = {}
    for key, names in meeting.names.items():
        found = [m.tensors.get(name) for m, name in zip(operands, names, strict=True)]
        entries = [t for t in found if t is not None]
        if len(entries) < len(found):
            draft.missing.append(key)
        elif not dtype_of(entries[0].dtype).arithmetic:
            draft.copied.append(key)
        else:
            content = _combine_one(key, entries, program, draft, is_transfer=is_transfer, vocab=vocab)
            if content is not None:
                tensors[key] = content
                triples[key] = tuple(entries)
                draft.renamed += [f"{key} ← {n}" for n in names if own_name(n) != own_name(key)][:1]
    _check(draft, meeting.extra, is_transfer=is_transfer)
    view = with_tensors(objects, view_of(lead), tensors)
    carried = None
    if is_transfer:
        view, carried = carry_files(objects, view, *operands, config=config)
    if draft.padded:
        view = replace_files(view, resized_files(objects, view, operands[config == "finetune"]))
    if config == "finetune":
        check_config(objects, view, lead)
    return Combination(view, draft.freeze(meeting), triples, carried)


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Which tensors of the operands belong together.

    Attributes:
        names: per key of the leading checkpoint, that of the same tensor in every operand.
        extra: tensors of the others that it lacks.
        apart: components and files that take no part.
    """

    names: Mapping[str, tuple[str, ...]]
    extra: tuple[str, ...]
    apart: tuple[str, ...]


def _meet(operands: Sequence[Manifest]) -> _Meeting:
    lead = operands[0]
    components = [match_components(lead, m) for m in operands]
    own = [m.primary for m in operands]
    lookups = [
        _names_in(own[0], table) | dict(found.names) for table, found in zip(own, components, strict=True)
    ]
    alone = {name for found in components for name in found.lacking if name}
    names = {k: tuple(lookup[k] for lookup in lookups) for k in lead.tensors if component_of(k) not in alone}
    extra: dict[str, None] = {}
    for lookup, manifest, found in zip(lookups, operands, components, strict=True):
        left = sorted(manifest.tensors.keys() - set(lookup.values()))
        extra.update(dict.fromkeys(k for k in left if component_of(k) not in found.unknown))
    return _Meeting(names, tuple(extra), weights_apart(operands, components[1:]))


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
        if not is_transfer or vocab == "strict" or not is_vocabulary(key) or component_of(key):
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


def _names_in(lead: Mapping[str, TensorEntry], other: Mapping[str, TensorEntry]) -> dict[str, str]:
    """For each key of the leading checkpoint, the key of the same tensor in another one.

    Wrappers put a prefix before all names (`model.`, `language_model.`); the prefix that makes the most
    names fit is taken, and none unless it is better than taking names as they are.
    """
    best = {k: k for k in lead}
    n_best = sum(k in other for k in lead)
    if n_best == len(lead):
        return best
    for add, cut in _prefixes(lead, other):
        tried = {k: add + k.removeprefix(cut) if k.startswith(cut) else k for k in lead}
        tried = {k: v if v in other else k for k, v in tried.items()}
        n_tried = sum(v in other for v in tried.values())
        if n_tried > n_best and len(set(tried.values())) == len(tried):
            best, n_best = tried, n_tried
    return best


def _prefixes(lead: Mapping[str, object], other: Mapping[str, object]) -> list[tuple[str, str]]:
    """Prefixes to add and to cut: the leading one or two parts of names, those of most names first."""
    cut = Counter(head for k in lead for head in _heads(k))
    add = Counter(head for k in other for head in _heads(k))
    found = [(-n, "", head) for head, n in cut.items()] + [(-n, head, "") for head, n in add.items()]
    return [(add, cut) for _, add, cut in sorted(found)[:_MAX_PREFIXES]]


def _heads(key: str) -> set[str]:
    return {".".join(key.split(".")[:n]) + "." for n in (1, 2)}


def _check(draft: _Draft, extra: Sequence[str], *, is_transfer: bool) -> None:
    wrong = list(draft.wrong)
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

"""Two checkpoints compared, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.module_updates import ModuleDiff
from deltavcs.brief import brief
from deltavcs.checkpoint.components import match_components
from deltavcs.checkpoint.correspondence import Correspondence
from deltavcs.checkpoint.matching import match, of_view
from deltavcs.checkpoint.quantised import describe, quantisations_of
from deltavcs.checkpoint.view import Content
from deltavcs.errors import InvalidInputError
from deltavcs.objects.store import ObjectStore
from deltavcs.pool import Pool
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.steps.adapter_diffs import compare_adapters
from deltavcs.steps.targets import Target, find_target
from deltavcs.tensors.dtypes import dtype_of, n_elements
from deltavcs.tensors.sums import difference, pair_sums

_SPAN_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """How a tensor of B differs from that of A.

    Attributes:
        changed: elements that differ in any bit; None if the shapes or dtypes differ.
        l2: ‖B − A‖₂; None without arithmetic.
        relative_l2: ‖B − A‖ / ‖A‖.
        cosine: between A and B as vectors.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    changed: int | None
    l2: float | None
    relative_l2: float | None
    cosine: float | None
    other: str | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Diff:
    """How checkpoint B differs from A.

    Attributes:
        tensors: those that differ, by their names in A, the largest movers first.
        modules: of two LoRA adapters, what they add to each weight: by the product of the factors, which are
            then not among `tensors`. The module that moved most first. Sums and cosine are over these
            products and the other tensors.
        adapter_kinds: the types of two adapters, such as `LORA (DoRA)` or `IA3`.
        quantised: how A and B are quantised, if they are, such as `chat: GPTQ, 4 bits`. Norms and cosines
            leave their packed numbers and scales out.
        names_differ: how the names of B differ from those of A, as a clause; empty if they do not.
    """

    a: str
    b: str
    n_common: int
    n_identical: int
    elements: int
    changed: int
    l2: float
    relative_l2: float | None
    cosine: float | None
    tensors: tuple[TensorDiff, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    files_changed: tuple[str, ...]
    files_only_in_a: tuple[str, ...]
    files_only_in_b: tuple[str, ...]
    quantised: tuple[str, ...] = ()
    names_differ: str = ""
    modules: tuple[ModuleDiff, ...] = ()
    adapter_kinds: tuple[str, ...] = ()

    __repr__ = brief


def diff(repo: Repository, a: str, b: str, *, dequantize: bool = False) -> Diff:
    """Compare two revisions or expressions, component by component. Norms and cosine are computed in float64.

    Args:
        dequantize: compare the weights that quantised checkpoints stand for.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: `incompatible` for an adapter and a whole checkpoint.
        IntegrityError: stored data is damaged.
    """
    left, right = (find_target(repo, x, dequantize=dequantize) for x in (a, b))
    adapters = compare_adapters(repo, left, right)
    schemes = {x.text: quantisations_of(repo.objects, x.view) for x in (left, right)}
    packed = frozenset(k for found in schemes.values() for one in found for k in one.tensors)
    names = _correspondence(repo, left, right)
    components = match_components(left.view, right.view)
    renamed = {theirs: ours for ours, theirs in components.names.items()}
    renamed |= names.renamed if names is not None else {}
    ours = left.view.tensors
    theirs = {renamed.get(k, k): t for k, t in right.view.tensors.items()}
    ours, theirs = ({k: c for k, c in x.items() if k not in adapters.factors} for x in (ours, theirs))
    common = [k for k in ours if k in theirs]
    same = {k for k in common if ours[k].blob is not None and ours[k].blob == theirs[k].blob}
    pairs = [(k, ours[k], theirs[k]) for k in common if k not in same]
    found = list(_compare_all(repo.objects, pairs, repo.resources, packed))
    same_norm = _norms(repo.objects, [ours[k] for k in same - packed], repo.resources)
    total = np.sum([s for _, s in found], axis=0) if found else np.zeros(5)
    total[:4] += np.sum([_module_sums(m) for m in adapters.modules], axis=0) if adapters.modules else 0.0
    changed = sum(t.changed if t.changed is not None else t.elements for t, _ in found)
    aa, bb = float(total[1]) + same_norm, float(total[2]) + same_norm
    return Diff(
        a=a,
        b=b,
        n_common=len(common) + len(adapters.modules),
        n_identical=len(same) + sum(t.changed == 0 for t, _ in found) + sum(m.same for m in adapters.modules),
        elements=sum(n_elements(ours[k].shape) for k in common),
        changed=changed,
        l2=math.sqrt(total[0]),
        relative_l2=math.sqrt(total[0] / aa) if aa else None,
        cosine=(float(total[3]) + same_norm) / math.sqrt(aa * bb) if aa and bb else None,
        tensors=tuple(sorted((t for t, _ in found if t.changed != 0), key=_movement)),
        only_in_a=tuple(sorted(ours.keys() - theirs.keys())),
        only_in_b=tuple(sorted(theirs.keys() - ours.keys())),
        quantised=tuple(f"{text}: {describe(found)}" for text, found in schemes.items() if found),
        modules=tuple(sorted((m for m in adapters.modules if not m.same), key=lambda m: (-m.l2, m.module))),
        adapter_kinds=adapters.kinds,
        **_files(left, right),
        names_differ=names.describe() if names is not None else "",
    )


def _correspondence(repo: Repository, left: Target, right: Target) -> Correspondence | None:
    """Which tensor of B is which of A; None where that cannot be told and names are taken as they are."""
    try:
        return match(of_view(repo.objects, right.view), of_view(repo.objects, left.view))
    except InvalidInputError:
        return None


def _module_sums(m: ModuleDiff) -> tuple[float, float, float, float]:
    """‖B−A‖², ‖A‖², ‖B‖², ⟨A,B⟩ of the products of a module."""
    return m.l2**2, m.l2_a**2, m.l2_b**2, (m.cosine or 0.0) * m.l2_a * m.l2_b


def _movement(t: TensorDiff) -> tuple[float, str]:
    return (-(t.relative_l2 if t.relative_l2 is not None else math.inf), t.name)


def _files(left: Target, right: Target) -> dict[str, tuple[str, ...]]:
    ours = {f.path: (f.blob, f.data) for f in left.view.files if f.keys is None}
    theirs = {f.path: (f.blob, f.data) for f in right.view.files if f.keys is None}
    return {
        "files_changed": tuple(sorted(p for p in ours.keys() & theirs.keys() if ours[p] != theirs[p])),
        "files_only_in_a": tuple(sorted(ours.keys() - theirs.keys())),
        "files_only_in_b": tuple(sorted(theirs.keys() - ours.keys())),
    }


Sums = npt.NDArray[np.float64]
_Pair = tuple[str, Content, Content]


def _compare_all(
    objects: ObjectStore, pairs: list[_Pair], resources: Resources, packed: Collection[str]
) -> Iterator[tuple[TensorDiff, Sums]]:
    """Each pair's difference, and its sums: ‖B−A‖², ‖A‖², ‖B‖², ⟨A,B⟩, elements changed.

    Args:
        packed: names of tensors whose numbers are no weights: they have no norm.
    """
    total = sum(a.size for _, a, _ in pairs)
    done = 0
    objects.blobs.prepare(resources)
    with Pool(resources) as pool:
        for name, a, b in pairs:
            if (a.dtype, a.shape) != (b.dtype, b.shape):
                yield _unlike(name, a, b), np.zeros(5)
            else:
                spans = _spans(a)
                parts = pool.map(lambda s, a=a, b=b: _compare(objects, a, b, *s), spans)  # type: ignore[misc]
                sums = np.sum([np.zeros(5), *parts], axis=0)
                if name in packed:
                    sums[:4] = 0
                yield _tensor_diff(name, a, sums, norms=name not in packed), sums
            done += a.size
            resources.progress("comparing", done, total)


def _norms(objects: ObjectStore, contents: list[Content], resources: Resources) -> float:
    """Sum of squares of tensors that are the same in both."""
    with Pool(resources) as pool:
        work = ((c, *s) for c in contents if dtype_of(c.dtype).arithmetic for s in _spans(c))
        return float(sum(pool.map(lambda w: _square(objects, *w), work)))


def _square(objects: ObjectStore, content: Content, start: int, count: int) -> float:
    raw = _read(objects, content, start, count)
    squares = pair_sums(content.dtype, raw, raw).aa
    return squares if math.isfinite(squares) else 0.0


def _spans(content: Content) -> Iterator[tuple[int, int]]:
    """Start and count, in elements; bytes for packed sub-byte types."""
    count = content.size // dtype_of(content.dtype).itemsize
    for at in range(0, count, _SPAN_ELEMENTS):
        yield at, min(_SPAN_ELEMENTS, count - at)


def _read(objects: ObjectStore, content: Content, start: int, count: int) -> npt.NDArray[np.uint8]:
    itemsize = dtype_of(content.dtype).itemsize
    out = np.empty(count * itemsize, np.uint8)
    content.read_into(objects.blobs, start * itemsize, out.data)
    return out


def _compare(objects: ObjectStore, a: Content, b: Content, start: int, count: int) -> Sums:
    left, right = _read(objects, a, start, count), _read(objects, b, start, count)
    if not dtype_of(a.dtype).arithmetic:
        changed, _ = difference(a.dtype, left, right)
        return np.array([0, 0, 0, 0, changed], np.float64)
    sums = pair_sums(a.dtype, left, right)
    return np.array([sums.move, sums.aa, sums.bb, sums.ab, sums.changed], np.float64)


def _tensor_diff(name: str, a: Content, sums: Sums, *, norms: bool) -> TensorDiff:
    move, aa, bb, ab, changed = (float(x) for x in sums)
    arithmetic = norms and dtype_of(a.dtype).arithmetic and math.isfinite(move)
    return TensorDiff(
        name=name,
        dtype=a.dtype,
        shape=a.shape,
        elements=n_elements(a.shape),
        changed=int(changed),
        l2=math.sqrt(move) if arithmetic else None,
        relative_l2=math.sqrt(move / aa) if arithmetic and aa else None,
        cosine=ab / math.sqrt(aa * bb) if arithmetic and aa and bb else None,
    )


def _unlike(name: str, a: Content, b: Content) -> TensorDiff:
    return TensorDiff(
        name, a.dtype, a.shape, n_elements(a.shape), None, None, None, None, f"{b.dtype} {list(b.shape)}"
    )

"""Which tensors of an adapter belong to which weight of its base."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deltavcs.adapters.adapter_keys import AdapterKey, Part, parse_key, plain_name
from deltavcs.checkpoint.elements import read_elements
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.tensors.dtypes import n_elements


@dataclass(frozen=True, slots=True)
class FactorName:
    """What the key of a factor says.

    Attributes:
        module: the adapted module, as the trained model named it.
        side: `A` or `B`.
        embedding: it is of an embedding, and transposed.
    """

    module: str
    side: str
    embedding: bool


def parse_factor(key: str) -> FactorName | None:
    """Read the key of a tensor of an adapter; None if it is no factor."""
    found = parse_key(key)
    if found.part not in (Part.A, Part.B):
        return None
    return FactorName(found.module, found.part.value, found.embedding)


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of a module, and how they change one tensor of the base.

    ΔW = scale·B·A for a weight [out, in]; its transpose for one [in, out] (embeddings, `Conv1D`). A stack of
    experts has A [experts·r, in] and B [out, r·experts] (`peft.tuners.lora.layer.ParamWrapper`).

    Attributes:
        module: the module (for an adapted parameter: its whole name) as the trained model named it.
        transposed: the weight is [in, out].
        stacked: the tensor is [experts, …, …], a matrix for each.
        experts: matrices in the stack; 1 for a matrix.
        expert: the only one that the tensor holds; None for all.
        first: first row of ΔW (of the expert's) that the tensor takes.
        at: first row of the tensor that is changed.
        rows: how many are; None for all.
        magnitude: of DoRA, one number per output.
    """

    a: TensorEntry
    b: TensorEntry
    module: str
    scale: float
    transposed: bool = False
    stacked: bool = False
    experts: int = 1
    expert: int | None = None
    first: int = 0
    at: int = 0
    rows: int | None = None
    magnitude: TensorEntry | None = None


@dataclass(frozen=True, slots=True)
class Grouped:
    """The tensors of an adapter by what they are; modules as the trained model named them.

    Attributes:
        halves: module → its factors A and B.
        whole: name as saved → tensor that replaces a weight.
        other: keys that no plain LoRA has.
        twice: two keys that say the same of the same module, as of two adapters in one file.
    """

    halves: Mapping[AdapterKey, TensorEntry]
    whole: Mapping[str, TensorEntry]
    other: tuple[str, ...] = ()
    extras: Mapping[AdapterKey, TensorEntry] = field(default_factory=dict)
    twice: tuple[str, ...] = ()

    def modules(self) -> list[str]:
        """Every module that has a factor, in the order of the file."""
        return list(dict.fromkeys(key.module for key in self.halves))

    def extra(self, module: str, part: Part) -> TensorEntry | None:
        """A tensor of a module beside its factors, such as the magnitude of DoRA."""
        return self.extras.get(AdapterKey(module, part))


def group_tensors(tensors: Mapping[str, TensorEntry]) -> Grouped:
    """Sort the tensors of an adapter by what their names say."""
    halves: dict[AdapterKey, TensorEntry] = {}
    extras: dict[AdapterKey, TensorEntry] = {}
    whole: dict[str, TensorEntry] = {}
    other = []
    named: dict[AdapterKey, str] = {}
    twice: tuple[str, ...] = ()
    for name, entry in tensors.items():
        key = parse_key(name)
        if key.part not in (Part.WHOLE, Part.COPY, Part.OTHER):
            first = named.setdefault(key, name)
            twice = twice or ((first, name) if first != name else ())
        if key.part in (Part.A, Part.B):
            halves[key] = entry
        elif key.part is Part.WHOLE:
            whole[plain_name(name)] = entry
        elif key.part is Part.OTHER:
            other.append(name)
        elif key.part is not Part.COPY:  # PEFT's copy of a weight that the adapter replaces
            extras[key] = entry
    return Grouped(halves, whole, tuple(other), extras, twice)


def read_factor(objects: ObjectStore, entry: TensorEntry) -> npt.NDArray[np.float64]:
    """One factor as a matrix of float64; the kernel of a convolution becomes part of its columns.

    Raises:
        InvalidInputError: `incompatible` if it is none.
    """
    if len(entry.shape) < 2:
        raise InvalidInputError(
            f"a factor has shape {list(entry.shape)}; only matrices are supported",
            kind=ErrorKind.INCOMPATIBLE,
        )
    values = read_elements(objects, entry, 0, n_elements(entry.shape))
    return values.reshape(entry.shape[0], -1)


def product(objects: ObjectStore, factors: Factors, rows: slice | None = None) -> npt.NDArray[np.float64]:
    """ΔW, or some rows of it, as a matrix of float64: rows of the weight on disk × the rest of its shape.

    Args:
        rows: of the changed rows (`factors.rows` of them, all of the tensor's if that is None).

    Raises:
        InvalidInputError: `incompatible` if a factor is no matrix.
    """
    found = load_low_rank(objects, factors)
    return found.multiply(*(rows or slice(None)).indices(found.n_rows)[:2])


@dataclass(frozen=True, slots=True)
class LowRank:
    """ΔW = scale·L·R: L of shape [experts, rows, r], R of shape [experts, r, columns], float64."""

    left: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]
    scale: float

    @property
    def n_rows(self) -> int:
        """Rows of all experts below each other."""
        return int(self.left.shape[0] * self.left.shape[1])

    def multiply(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Rows `start` to `stop`, shape [rows, columns]."""
        each = self.left.shape[1]
        out = np.zeros((max(0, stop - start), self.right.shape[2]))
        for expert in range(start // each, -(-stop // each) if out.size else 0):
            low, high = max(start, expert * each), min(stop, (expert + 1) * each)
            part = self.left[expert, low - expert * each : high - expert * each] @ self.right[expert]
            out[low - start : high - start] = self.scale * part
        return out


class FactorCache:
    """Factors that many tensors share, such as those of a stack of experts; the last few. Thread-safe."""

    def __init__(self, objects: ObjectStore, *, keep: int = 4) -> None:
        self._objects, self._keep = objects, keep
        self._lock = threading.Lock()
        self._kept: dict[BlobId, npt.NDArray[np.float64]] = {}

    def read(self, entry: TensorEntry) -> npt.NDArray[np.float64]:
        """As `read_factor`; not to be changed."""
        with self._lock:
            found = self._kept.pop(entry.blob, None)
            found = read_factor(self._objects, entry) if found is None else found
            self._kept[entry.blob] = found
            while len(self._kept) > self._keep:
                del self._kept[next(iter(self._kept))]
            return found


def load_low_rank(objects: ObjectStore, factors: Factors, cache: FactorCache | None = None) -> LowRank:
    """Read the factors, the way round that the weight lies.

    Args:
        cache: for those of a stack whose experts are tensors of their own.
    """
    if cache is not None and factors.expert is not None:
        a, b = cache.read(factors.a), cache.read(factors.b)
    else:
        a, b = read_factor(objects, factors.a), read_factor(objects, factors.b)
    n = factors.experts
    a = a.reshape(n, -1, a.shape[1])
    b = b.reshape(b.shape[0], -1, n).transpose(2, 0, 1)
    left, right = (a.transpose(0, 2, 1), b.transpose(0, 2, 1)) if factors.transposed else (b, a)
    if factors.expert is not None:
        left, right = left[factors.expert : factors.expert + 1], right[factors.expert : factors.expert + 1]
    if factors.first or factors.rows is not None:
        left = left[:, factors.first : None if factors.rows is None else factors.first + factors.rows]
    return LowRank(left, right, factors.scale)

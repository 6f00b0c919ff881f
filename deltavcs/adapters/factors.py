"""Which factors of an adapter belong to which weight of its base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltavcs.advice import Advice
from deltavcs.checkpoint.elements import read_elements
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest, TensorEntry
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import n_elements

_PREFIX = "base_model.model."
_WRAPPER = re.compile(r"\.(?:modules_to_save|base_layer)\.")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?\Z")


@dataclass(frozen=True, slots=True)
class FactorName:
    """What the key of a factor says.

    Attributes:
        module: the adapted module, as the base names it.
        side: `A` or `B`.
        embedding: it is of an embedding, and transposed.
    """

    module: str
    side: str
    embedding: bool


def parse_factor(key: str) -> FactorName | None:
    """Read the key of a tensor of an adapter; None if it is no factor."""
    found = _FACTOR.match(key.removeprefix(_PREFIX))
    if found is None:
        return None
    return FactorName(found["module"], found["side"], found["embedding"] is not None)


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of one module, B·A of the weight's shape."""

    a: TensorEntry
    b: TensorEntry
    embedding: bool


def match_adapter(adapter: Manifest, base: Manifest) -> tuple[dict[str, Factors], dict[str, TensorEntry]]:
    """Which weights of the base an adapter changes: by factors, and whole.

    Whole are `modules_to_save`, and embeddings and heads that PEFT saves beneath their factors
    (`base_layer`): the factors are then added to those.

    Raises:
        InvalidInputError: `incompatible` if a module is not in the base, or a factor lacks its twin.
    """
    weights = base.primary
    halves: dict[str, dict[FactorName, TensorEntry]] = {}
    whole: dict[str, TensorEntry] = {}
    for key, entry in adapter.primary.items():
        name, found = key.removeprefix(_PREFIX), parse_factor(key)
        if found is not None:
            halves.setdefault(found.module, {})[found] = entry
        elif ".original_module." not in name:  # PEFT's copy of a weight that the adapter replaces
            whole[_base_key(_WRAPPER.sub(".", name), weights)] = entry
    factors = {}
    for module, pair in halves.items():
        name = f"{module}.weight"
        embedding = FactorName(module, "A", True) in pair
        a, b = (pair.get(FactorName(module, side, embedding)) for side in "AB")
        if a is None or b is None or len(pair) != 2:
            raise InvalidInputError(f"{name}: an adapter needs both A and B", kind=ErrorKind.INCOMPATIBLE)
        factors[_base_key(name, weights)] = Factors(a, b, embedding)
    return factors, whole


def _base_key(name: str, weights: Mapping[str, TensorEntry]) -> str:
    if name not in weights:
        raise InvalidInputError(
            f"the adapter changes {name}, which the base does not have",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.CHECK_BASE,
        )
    return name


def read_factor(objects: ObjectStore, entry: TensorEntry) -> npt.NDArray[np.float64]:
    """One factor as a matrix of float64.

    Raises:
        InvalidInputError: `incompatible` if it is none.
    """
    if len(entry.shape) != 2:
        raise InvalidInputError(
            f"a factor has shape {list(entry.shape)}; only matrices are supported",
            kind=ErrorKind.INCOMPATIBLE,
        )
    return read_elements(objects, entry, 0, n_elements(entry.shape)).reshape(entry.shape)

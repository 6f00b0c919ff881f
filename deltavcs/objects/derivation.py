"""Derived blobs: an operator and its inputs instead of bytes (spec §4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltavcs.canonical import decode_json, encode_json
from deltavcs.objects import fields as f
from deltavcs.objects.domain import parse_domain
from deltavcs.oid import BlobId
from deltavcs.operators.parse import parse
from deltavcs.tensors.dtypes import dtype_of

MAX_INPUTS = 256
_KEYS = frozenset({"inputs", "op", "params"})


@dataclass(frozen=True, slots=True)
class Operand:
    """An input: the first `elements` elements of `blob`, and zeros after."""

    blob: BlobId
    elements: int


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a derived blob is computed, element by element."""

    op: str
    params: Mapping[str, Any]
    inputs: tuple[Operand, ...]

    def encode(self) -> bytes:
        """The side of the entry."""
        return encode_json(
            {
                "inputs": [{"blob": x.blob, "elements": x.elements} for x in self.inputs],
                "op": self.op,
                "params": dict(self.params),
            }
        )


def decode_derivation(side: bytes, domain: str) -> Derivation:
    """Parse the side of a derived entry.

    Raises:
        FormatError: `bad-object` for a malformed operator, or a result that has no arithmetic.
    """
    tensor = parse_domain(domain)
    if tensor is None or not dtype_of(tensor[0]).arithmetic:
        f.bad(f"{domain!r} cannot be derived")
    raw = f.exact_keys(decode_json(side), _KEYS, "derivation")
    inputs = []
    for item in f.items(raw["inputs"], "inputs", limit=MAX_INPUTS):
        one = f.exact_keys(item, frozenset({"blob", "elements"}), "input")
        inputs.append(Operand(BlobId(f.oid(one["blob"])), f.integer(one["elements"], "elements")))
    op = f.text(raw["op"], "op", max_bytes=64)
    params = f.mapping(raw["params"], "params", limit=64)
    parse(op, params, len(inputs))
    return Derivation(op, params, tuple(inputs))

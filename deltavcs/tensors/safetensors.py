"""Reading safetensors headers as hostile input, and writing them canonically.

The safetensors library does not give the header's own bytes, which a byte-identical checkout needs. What it
opens is read here too, and means the same: white space before the text, fields that it does not know, `null`
for no metadata, and of a name that stands there twice the last. Beyond the limits below it is refused.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltavcs.canonical import parse_json
from deltavcs.errors import ErrorKind, FormatError
from deltavcs.tensors.dtypes import n_bytes

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 64
MAX_NAME_BYTES = 4096
_MAX_DIM = 2**48
_LENGTH = struct.Struct("<Q")
# How files of other kinds begin that have been given the name.
_OTHERS = {
    b"PK\x03\x04": "a zip archive, such as what torch.save writes",
    b"\x80": "a pickle",
    b"GGUF": "GGUF",
    b"<": "a web page",
    b"\x89HDF": "HDF5",
    b"version ": "a Git LFS pointer",
}
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """One tensor of a file: `begin` and `end` count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header.

    Attributes:
        n_bytes: bytes before the first tensor: the length field and the JSON text.
        spans: tensors in the order of their offsets; without holes or overlaps, up to the file's end.
        metadata: the `__metadata__` map.
    """

    n_bytes: int
    spans: tuple[TensorSpan, ...]
    metadata: Mapping[str, str]


def header_length(prefix: bytes | bytearray, file_bytes: int) -> int:
    """Bytes of the JSON text, from the first 8 bytes of a file of `file_bytes` bytes.

    Raises:
        FormatError: `bad-header` if the file is too short, `limit-exceeded` over 100 MB.
    """
    if file_bytes < _LENGTH.size or len(prefix) < _LENGTH.size:
        raise _bad(f"the file has {file_bytes} bytes, too few for a safetensors file")
    (length,) = _LENGTH.unpack_from(prefix)
    other = next((what for start, what in _OTHERS.items() if bytes(prefix[:8]).startswith(start)), None)
    if other is not None and length > MAX_HEADER_BYTES:
        raise _bad(f"the file is {other}, whatever its name says")
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"the header claims {length} bytes; at most {MAX_HEADER_BYTES} are allowed",
            kind=ErrorKind.LIMIT_EXCEEDED,
        )
    if length > file_bytes - _LENGTH.size:
        raise _bad(
            f"the header claims {length} bytes, but only {file_bytes - _LENGTH.size} follow: truncated?"
        )
    return int(length)


def parse_header(text: bytes | bytearray, file_bytes: int) -> Header:
    """Parse the JSON text of a header and prove that its tensors fill the file exactly.

    Raises:
        FormatError: `bad-header` with the tensor that is wrong, `unsupported-dtype`, `limit-exceeded`.
    """
    raw = _load(bytes(text))
    metadata = raw.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad("__metadata__ must map strings to strings")
    spans = sorted((_span(name, value) for name, value in raw.items()), key=lambda s: (s.begin, s.end))
    at = 0
    for span in spans:
        if span.begin != at:
            raise _bad(f"tensor {span.name!r} begins at {span.begin}, but {at} bytes come before it")
        at = span.end
    n_header = _LENGTH.size + len(text)
    if n_header + at != file_bytes:
        is_cut = n_header + at > file_bytes
        more, why = ("more", "truncated?") if is_cut else ("fewer", "is something appended?")
        raise _bad(f"the tensors need {n_header + at} bytes, {more} than the {file_bytes} of the file: {why}")
    return Header(n_header, tuple(spans), metadata)


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys stand there twice; the last one counts."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = (
            {k for k, n in Counter(k for k, _ in pairs).items() if n > 1} if len(self) < len(pairs) else set()
        )


def _load(text: bytes) -> _Object:
    try:
        raw = parse_json(text.decode(), repeated=_Object)
    except ValueError as exc:
        raise _bad(f"the header is not JSON: {exc}") from exc
    if not isinstance(raw, _Object):
        raise _bad("the header is not a JSON object")
    if "__metadata__" in raw.repeated:
        raise _bad("__metadata__ stands there twice")
    return raw


def _span(name: str, value: object) -> TensorSpan:
    if not isinstance(value, _Object) or not value.keys() >= _FIELDS or value.repeated & _FIELDS:
        raise _bad(f"tensor {name[:40]!r} must have dtype, shape and data_offsets, each once")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if any(0xD800 <= ord(c) < 0xE000 for c in name):
        raise _bad(f"tensor name {name[:40]!r} is not UTF-8")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise _beyond(f"a tensor name of {len(name.encode())} bytes ({name[:40]!r}…)", MAX_NAME_BYTES)
    if not isinstance(dtype, str) or not _sizes(shape):
        raise _bad(f"tensor {name!r} has a malformed dtype or shape")
    if len(shape) > MAX_RANK:
        raise _beyond(f"tensor {name!r} with {len(shape)} dimensions", MAX_RANK)
    if max(shape, default=0) > _MAX_DIM:
        raise _beyond(f"tensor {name!r} with a dimension of {max(shape)}", _MAX_DIM)
    if not _sizes(offsets) or len(offsets) != 2:
        raise _bad(f"tensor {name!r} has malformed data_offsets")
    size = n_bytes(dtype, tuple(shape))
    begin, end = offsets
    if end - begin != size:
        raise _bad(f"tensor {name!r} of {dtype} {shape} needs {size} bytes, its offsets span {end - begin}")
    return TensorSpan(name, dtype, tuple(shape), begin, end)


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**64 for x in value
    )


def _beyond(what: str, limit: int) -> FormatError:
    return FormatError(f"{what}; at most {limit} are allowed", kind=ErrorKind.LIMIT_EXCEEDED)


def _bad(why: str) -> FormatError:
    return FormatError(f"bad safetensors header: {why}", kind=ErrorKind.BAD_HEADER)


def build_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, int]:
    """Length field and JSON text for tensors laid out in the given order, and the whole file's size.

    Args:
        tensors: name, dtype and shape of each.
        metadata: the `__metadata__` map; left out if empty.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape in tensors:
        size = n_bytes(dtype, shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin on 8 bytes, as the reference library aligns them
    return _LENGTH.pack(len(text)) + text, _LENGTH.size + len(text) + at

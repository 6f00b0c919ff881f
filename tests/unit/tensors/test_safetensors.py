"""Headers as hostile input: each is refused with an error that says why, before anything is allocated."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError
from deltavcs.tensors.safetensors import MAX_HEADER_BYTES, build_header, header_length, parse_header


def t(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def text(value):
    return json.dumps(value).encode()


LYING = {
    "ends too late": (text({"a": t(offsets=(0, 12))}), 12),
    "ends too early": (text({"a": t(offsets=(0, 4))}), 4),
    "ends before it begins": (text({"a": t(offsets=(8, 0))}), 8),
    "does not begin at 0": (text({"a": t(offsets=(4, 12))}), 12),
    "hole": (text({"a": t(), "b": t(offsets=(12, 20))}), 20),
    "overlap": (text({"a": t(), "b": t(offsets=(4, 12))}), 12),
    "the same bytes twice": (text({"a": t(), "b": t()}), 8),
    "file too short": (text({"a": t()}), 7),
    "file too long": (text({"a": t()}), 9),
    "no tensors but bytes": (text({}), 1),
    "negative": (text({"a": t(offsets=(-8, 0))}), 0),
    "negative shape": (text({"a": t(shape=(-2,))}), 8),
    "shape overflows 64 bits": (text({"a": t(shape=(2**33, 2**33), offsets=(0, 0))}), 0),
    "float offset": (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}}', 8),
    "true is no size": (b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', 1),
    "one offset": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}}', 1),
    "three offsets": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}', 1),
    "string shape": (b'{"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}}', 1),
    "dtype is a list": (b'{"a":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}}', 1),
    "no dtype": (b'{"a":{"shape":[1],"data_offsets":[0,1]}}', 1),
    "tensor is a number": (b'{"a":1}', 0),
    "half bytes": (text({"a": t("F4", (3,), (0, 1))}), 1),
    "metadata of numbers": (b'{"__metadata__":{"a":1}}', 0),
    "metadata is a list": (b'{"__metadata__":[]}', 0),
    "not an object": (b"[]", 0),
    "array that begins like one": (b"{}[]", 0),
    "nothing": (b"", 0),
    "not UTF-8": (b'{"\xff":1}', 0),
    "lone surrogate": (b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    "NaN": (b'{"a":NaN}', 0),
    "huge integer": (b'{"a":' + b"9" * 5000 + b"}", 0),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 0),
    "cut": (text({"a": t()})[:-1], 8),
}


@pytest.mark.parametrize("case", LYING)
def test_lying_headers(case):
    header, data_bytes = LYING[case]
    with pytest.raises(FormatError) as caught:
        parse_header(header, 8 + len(header) + data_bytes)
    assert caught.value.kind is ErrorKind.BAD_HEADER
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_unknown_dtype():
    with pytest.raises(FormatError) as caught:
        parse_header(text({"a": t("F3")}), 1000)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE


BEYOND = {
    "dimension": (text({"a": t(shape=(2**63, 0), offsets=(0, 0))}), 0),
    "65 dimensions": (text({"a": t(shape=(1,) * 65, offsets=(0, 4))}), 4),
    "name": (text({"n" * 5000: t()}), 8),
}


@pytest.mark.parametrize("case", BEYOND)
def test_what_is_beyond_a_limit_is_called_that(case):
    header, data_bytes = BEYOND[case]
    with pytest.raises(FormatError) as caught:
        parse_header(header, 8 + len(header) + data_bytes)
    assert caught.value.kind is ErrorKind.LIMIT_EXCEEDED and case in caught.value.message


ONE = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
ODD = {
    "null metadata": (b'{"__metadata__":null,"a":%s}' % ONE, 8),
    "no metadata": (b'{"a":%s}' % ONE, 8),
    "empty metadata": (b'{"__metadata__":{},"a":%s}' % ONE, 8),
    "metadata last": (b'{"a":%s,"__metadata__":{"format":"mlx"}}' % ONE, 8),
    "metadata of null": (b'{"__metadata__":{"a":null},"a":%s}' % ONE, 8),
    "metadata is a string": (b'{"__metadata__":"pt","a":%s}' % ONE, 8),
    "metadata twice": (b'{"__metadata__":{},"__metadata__":{},"a":%s}' % ONE, 8),
    "metadata with a key twice": (b'{"__metadata__":{"x":"1","x":"2"},"a":%s}' % ONE, 8),
    "a tensor twice": (b'{"a":%s,"a":%s}' % (ONE, ONE), 8),
    "a tensor twice, a hole": (b'{"a":%s,"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}' % ONE, 9),
    "a field twice": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
    "a field more": (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":[{}],"x":1}}', 8),
    "fields in another order": (b'{"a":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}', 8),
    "spaces first": (b'  {"a":%s}' % ONE, 8),
    "byte order mark": (b'\xef\xbb\xbf{"a":%s}' % ONE, 8),
    "lines and tabs": (b'{\n\t"a" : %s\r\n}\t\n  ' % ONE, 8),
    "zeros behind": (b'{"a":%s}\0\0' % ONE, 8),
    "scalar": (b'{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}', 8),
    "empty tensors": (
        b'{"z":{"dtype":"F32","shape":[0,4],"data_offsets":[8,8]},"a":%s,'
        b'"y":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' % ONE,
        8,
    ),
    "an empty tensor inside another": (
        b'{"z":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":%s}' % ONE,
        8,
    ),
    "no tensors": (b"{}", 0),
    "only metadata": (b'{"__metadata__":{"x":"y"}}   ', 0),
    "no name": (b'{"":%s}' % ONE, 8),
    "escaped name": (b'{"\\u0061\\ud83d\\ude00\\/b":%s}' % ONE, 8),
    "control character": (b'{"a\x01":%s}' % ONE, 8),
    "float size": (b'{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', 8),
    "null": (b"null", 0),
}


@pytest.mark.parametrize("case", ODD)
def test_opens_what_the_reference_library_opens(case, tmp_path):
    header, n = ODD[case]
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(n))
    try:
        with safe_open(tmp_path / "x.safetensors", "np") as file:
            expected = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        expected = None
    try:
        found = {s.name: s.shape for s in parse_header(header, 8 + len(header) + n).spans}
    except FormatError as exc:
        assert exc.kind is ErrorKind.BAD_HEADER
        found = None
    assert found == expected


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_bomb_is_refused_by_its_length(size):
    tracemalloc.start()
    with pytest.raises(FormatError) as caught:
        header_length(struct.pack("<Q", size), 2**62)
    assert caught.value.kind is ErrorKind.LIMIT_EXCEEDED
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("start", "named"),
    [(b"PK\x03\x04\x14\0\0\0", "torch.save"), (b"<!DOCTYPE html>", "web page"), (b"GGUF\x03\0\0\0", "GGUF")],
)
def test_files_of_other_kinds_are_called_what_they_are(start, named):
    with pytest.raises(FormatError, match=named) as caught:
        header_length(start[:8], 1000)
    assert caught.value.kind is ErrorKind.BAD_HEADER


@pytest.mark.parametrize("size", range(12))
def test_files_too_short_for_their_header(size):
    data = (struct.pack("<Q", 100) + b"{}  ")[:size]
    with pytest.raises(FormatError) as caught:
        header_length(data[:8], size)
    assert caught.value.kind is ErrorKind.BAD_HEADER


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes(junk, n):
    try:
        header = parse_header(junk, 8 + len(junk) + n)
    except DeltaVCSError:
        return
    assert sum(s.end - s.begin for s in header.spans) == n


@given(st.data())
def test_any_damage_of_a_good_header(data):
    good = text({"__metadata__": {"a": "b"}, "x": t(), "y": t("BF16", (2, 2), (8, 16))})
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    try:
        header = parse_header(bad, 8 + len(bad) + 16)
    except DeltaVCSError:
        return
    ends = [0, *(s.end for s in header.spans)]
    assert [s.begin for s in header.spans] == ends[:-1] and ends[-1] == 16


def test_built_headers_are_read_by_the_reference_library():
    tensors = [("b", "F32", (2, 2)), ("ä", "I64", ()), ("empty", "F16", (0, 3))]
    header, size = build_header(tensors, {"format": "pt"})
    data = header + bytes(size - len(header))
    assert len(header) % 8 == 0
    assert {n: a.shape for n, a in load(data).items()} == {n: s for n, _, s in tensors}
    assert parse_header(header[8:], size).metadata == {"format": "pt"}

"""JSON: one encoding of a value, and strict parsing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltavcs.canonical import RepeatedKey, decode_json, encode_json, parse_json
from deltavcs.errors import ErrorKind, FormatError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text('ab\n"é', max_size=3), below),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded(value):
    data = encode_json(value)
    assert decode_json(data) == value
    assert encode_json(decode_json(data)) == data


def test_the_encoding_is_canonical():
    assert encode_json({"b": [1, 0.5], "a": "é\n", "B": None}) == '{"B":null,"a":"é\\n","b":[1,0.5]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_what_has_no_encoding(value):
    with pytest.raises(ValueError):
        encode_json(value)


def test_lone_surrogates_are_encoded_on_request():
    assert encode_json(["\ud800"], lone_surrogates=True) == b'["\xed\xa0\x80"]'
    assert encode_json(["é"], lone_surrogates=True) == encode_json(["é"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not a number that JSON has"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("1e400", "the number 1e400 is too large"),
        ("9" * 401, "a number of 401 digits; the limit is 400"),
        ('{"a":{"b":1,"b":2}}', "the key 'b' is there twice"),
        ("[" * 100_000, "too many levels"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_refused_by_name(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    with pytest.raises(FormatError) as caught:
        decode_json(text.encode())
    assert caught.value.kind is ErrorKind.BAD_OBJECT


def test_a_repeated_key_is_told_from_what_is_no_json():
    with pytest.raises(RepeatedKey) as caught:
        parse_json('{"x":1,"y":2,"x":3}')
    assert caught.value.key == "x"
    with pytest.raises(json.JSONDecodeError):
        parse_json("nul")


@pytest.mark.parametrize(
    ("number", "fits"),
    [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)],
)
def test_integers_of_objects_have_64_bits(number, fits):
    assert parse_json(str(number)) == number
    if fits:
        assert decode_json(str(number).encode()) == number
    else:
        with pytest.raises(FormatError):
            decode_json(str(number).encode())


@pytest.mark.parametrize("inside", [b"", b"1", b'{"a":'])
def test_objects_have_32_levels(inside):
    closing = b"1}" if inside.startswith(b"{") else b""
    lists = 31 if closing else 32
    decode_json(b"[" * lists + inside + closing + b"]" * lists)
    with pytest.raises(FormatError, match="too deeply"):
        decode_json(b"[" * (lists + 1) + inside + closing + b"]" * (lists + 1))


def test_what_is_not_utf8_is_no_object():
    with pytest.raises(FormatError):
        decode_json(b'"\xff"')

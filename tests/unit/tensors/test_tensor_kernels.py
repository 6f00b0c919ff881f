"""The kernels of `deltavcs.tensors`: every level gives the bits that numpy gives."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.operators import parse as derived
from deltavcs.operators.evaluate import evaluate_stored
from deltavcs.tensors import tensor_kernels as native
from deltavcs.tensors.cast import from_float64, to_float64
from deltavcs.tensors.programs import run_native
from deltavcs.tensors.sums import difference, pair_sums, triple_sums

NATIVE = [level for level in native.levels() if level != native.NUMPY]
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1}
LENGTHS = [0, 1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 511, 513, 4095, 4096, 4097, 9000]
TRANSFER = [0, 1, 2, "-", ["*", (0.8).hex()], "+"]

needs_native = pytest.mark.skipif(not NATIVE, reason="the extension was not built")


@pytest.fixture(autouse=True)
def best_level() -> Iterator[None]:
    yield
    native.set_level(native.levels()[-1])


def at_level(level: str, function, *args):  # type: ignore[no-untyped-def]
    native.set_level(level)
    try:
        return function(*args)
    finally:
        native.set_level(native.levels()[-1])


def random_elements(dtype: str, n: int, seed: int) -> np.ndarray:
    """Any bit patterns, with the ordinary ones in the majority."""
    rng = np.random.default_rng(seed)
    raw = from_float64(rng.standard_normal(n) * 0.02, dtype).reshape(n, SIZES[dtype])
    wild = rng.integers(0, 256, raw.shape, dtype=np.uint8)
    return np.where(rng.random(n)[:, None] < 0.1, wild, raw).reshape(-1)


def finite(dtype: str, n: int, seed: int) -> np.ndarray:
    return from_float64(np.random.default_rng(seed).standard_normal(n), dtype)


def unaligned(raw: np.ndarray) -> np.ndarray:
    room = np.empty(raw.size + 1, np.uint8)
    room[1:] = raw
    return room[1:]


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal bits, where NaN is any NaN: its payload is not specified."""
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    np.testing.assert_array_equal(a.view(np.uint64)[~np.isnan(a)], b.view(np.uint64)[~np.isnan(b)])


def same_numbers(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    same(np.array(a, np.float64), np.array(b, np.float64))


def fields(sums: object) -> tuple[float, ...]:
    return tuple(getattr(sums, name) for name in type(sums).__slots__)


def test_info_and_levels() -> None:
    info = native.native_info()
    assert info.available == bool(NATIVE)
    assert info.level == native.levels()[-1]
    native.set_level(native.NUMPY)
    assert native.native_info().level == native.NUMPY
    assert native.kernels() is None
    with pytest.raises(InvalidInputError) as caught:
        native.set_level("quantum")
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def patterns(dtype: str) -> np.ndarray:
    if SIZES[dtype] <= 2:
        return np.arange(1 << (8 * SIZES[dtype]), dtype=f"<u{SIZES[dtype]}").view(np.uint8)
    width = 8 * SIZES[dtype]
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << width, 60_000, dtype=f"u{width // 8}")
    edges = np.array([0, 1, 1 << (width - 1), (1 << width) - 1, (1 << (width - 1)) - 1], bits.dtype)
    tiny = rng.integers(0, 1 << 20, 1000, dtype=bits.dtype)
    return np.concatenate([edges, tiny, bits]).view(np.uint8)


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("dtype", SIZES)
def test_widening_every_pattern(level: str, dtype: str) -> None:
    raw = patterns(dtype)
    expected = at_level(native.NUMPY, to_float64, raw, dtype)
    same(at_level(level, to_float64, raw, dtype), expected)
    same(at_level(level, to_float64, unaligned(raw), dtype), expected)


def hard_to_round(dtype: str) -> np.ndarray:
    """Values, midpoints, and float64 numbers one unit around both; every magnitude; every kind of NaN."""
    rng = np.random.default_rng(2)
    raw = patterns(dtype)
    values = at_level(native.NUMPY, to_float64, raw, dtype)
    values = np.sort(values[np.isfinite(values)])
    with np.errstate(over="ignore", under="ignore"):
        middles = values[:-1] / 2 + values[1:] / 2
        marks = np.concatenate([values, middles, values[-1:] + (values[-1] - values[-2]) / 2])
        around = [np.nextafter(marks, -np.inf), marks, np.nextafter(marks, np.inf)]
        scales = rng.standard_normal(4000) * 2.0 ** rng.integers(-1070, 1020, 4000)
    bits = rng.integers(0, 1 << 64, 4000, dtype=np.uint64).view(np.float64)
    nans = np.array([0x7FF8 << 48, 0xFFF8 << 48, (0x7FF0 << 48) + 1, (1 << 64) - 1], np.uint64)
    edges = np.array([0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324, 2.0**-1022, sys.float_info.max])
    return np.concatenate([*around, scales, bits, nans.view(np.float64), edges])


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("dtype", SIZES)
def test_rounding_midpoints_and_edges(level: str, dtype: str) -> None:
    values = hard_to_round(dtype)
    for order in (values, np.random.default_rng(3).permutation(values)):
        expected = at_level(native.NUMPY, from_float64, order, dtype)
        np.testing.assert_array_equal(at_level(level, from_float64, order, dtype), expected)


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths_and_alignment(level: str, dtype: str, n: int) -> None:
    a, b, c = (random_elements(dtype, n, seed) for seed in (1, 2, 3))
    b = np.where(np.random.default_rng(4).random(n * SIZES[dtype]) < 0.7, a, b)
    for x, y in ((a, b), (unaligned(a), unaligned(b)), (a, a.copy())):
        expected = at_level(native.NUMPY, difference, dtype, x, y)
        same_numbers(at_level(level, difference, dtype, x, y), expected)
        expected = at_level(native.NUMPY, pair_sums, dtype, x, y)
        same_numbers(fields(at_level(level, pair_sums, dtype, x, y)), fields(expected))
    triple = [(dtype, unaligned(x)) for x in (a, b, c)]
    expected = at_level(native.NUMPY, triple_sums, *triple)
    same_numbers(fields(at_level(level, triple_sums, *triple)), fields(expected))


def scalar_sum(terms: list[float]) -> float:
    """The order of sums as `sums.py` states it, in plain Python."""
    total = 0.0
    for at in range(0, len(terms), 4096):
        lanes = [0.0] * 64
        for i, term in enumerate(terms[at : at + 4096]):
            lanes[i % 64] += term
        width = 32
        while width:
            for j in range(width):
                lanes[j] += lanes[j + width]
            width //= 2
        total += lanes[0]
    return total


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
@pytest.mark.parametrize("n", [1, 63, 65, 4095, 4097, 41_000])
def test_order_of_sums(level: str, dtype: str, n: int) -> None:
    raw = [finite(dtype, n, seed) for seed in (5, 6, 7)]
    t, f, s = (to_float64(x, dtype).tolist() for x in raw)
    native.set_level(level)
    changed, squares = difference(dtype, raw[0], raw[1])
    assert changed == sum(x != y for x, y in zip(t, f, strict=True))
    assert squares == scalar_sum([(x - y) * (x - y) for x, y in zip(t, f, strict=True)])
    triple = triple_sums(*((dtype, x) for x in raw))
    assert triple.base == scalar_sum([z * z for z in s])
    assert triple.dot == scalar_sum([(y - z) * (x - z) for x, y, z in zip(t, f, s, strict=True)])
    pair = pair_sums(dtype, raw[0], raw[1])
    assert pair.ab == scalar_sum([x * y for x, y in zip(t, f, strict=True)])
    assert (pair.changed, pair.move) == (changed, squares)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_pattern_against_special_partners(level: str, dtype: str) -> None:
    every = patterns(dtype)
    specials = from_float64(np.array([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan]), dtype).view("<u2")
    for special in specials.tolist():
        partner = np.full(every.size // 2, special, "<u2").view(np.uint8)
        expected = at_level(native.NUMPY, difference, dtype, every, partner)
        same_numbers(at_level(level, difference, dtype, every, partner), expected)
        assert expected[0] == (1 << 16) - 1


@pytest.mark.parametrize("level", native.levels())
def test_equal_elements_add_nothing_even_if_they_are_not_numbers(level: str) -> None:
    a = np.array([1.0, math.nan, math.inf, -math.inf, 2.0] * 40, np.float32)
    b = a.copy()
    b[::5] = 3.0
    native.set_level(level)
    assert difference("F32", a.view(np.uint8), b.view(np.uint8)) == (40, 160.0)
    b[1] = 0.0
    changed, squares = difference("F32", a.view(np.uint8), b.view(np.uint8))
    assert changed == 41
    assert math.isnan(squares)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("dtype", ["U8", "F4", "BOOL", "I16", "I32", "I64", "C64", "F8_E8M0"])
def test_counting_without_arithmetic(level: str, dtype: str) -> None:
    rng = np.random.default_rng(8)
    a = rng.integers(0, 2, 8 * 700, dtype=np.uint8)
    b = rng.integers(0, 2, 8 * 700, dtype=np.uint8)
    size = {"I16": 2, "I32": 4, "I64": 8, "C64": 8}.get(dtype, 1)
    native.set_level(level)
    expected = int((a.reshape(-1, size) != b.reshape(-1, size)).any(axis=1).sum())
    assert difference(dtype, unaligned(a), unaligned(b)) == (expected, 0.0)
    assert difference(dtype, np.zeros(8000, np.uint8), np.ones(8000, np.uint8)) == (8000 // size, 0.0)


def run_at(level: str, program: list[object], inputs, dtype: str, n: int) -> bytes:  # type: ignore[no-untyped-def]
    operation = derived.parse("linear", {"program": program}, len(inputs))
    out = np.full(n * SIZES[dtype] + 1, 0xAA, np.uint8)[1:]
    at_level(level, evaluate_stored, operation, inputs, 0, dtype, out.data)
    return out.tobytes()


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("n", LENGTHS)
def test_transfers_of_every_length(level: str, dtype: str, n: int) -> None:
    short = max(0, n - 5)
    inputs = [(dtype, random_elements(dtype, m, seed)) for seed, m in enumerate((n, n, short))]
    expected = run_at(native.NUMPY, TRANSFER, inputs, dtype, n)
    assert run_at(level, TRANSFER, inputs, dtype, n) == expected
    assert run_at(level, TRANSFER, [(d, unaligned(x)) for d, x in inputs], dtype, n) == expected
    assert run_at(level, TRANSFER, [(d, x.tobytes()) for d, x in inputs], dtype, n) == expected


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("out", SIZES)
def test_inputs_of_other_dtypes(level: str, out: str) -> None:
    inputs = [(dtype, random_elements(dtype, 700 + i, i)) for i, dtype in enumerate(SIZES)]
    program = [0, 1, "-", ["/", (3.0).hex()], 2, 3, "+", ["*", (-0.1).hex()], 4, 5, "-", "+", "+"]
    expected = run_at(native.NUMPY, program, inputs, out, 704)
    assert run_at(level, program, inputs, out, 704) == expected


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_transfers_of_every_pattern(level: str, dtype: str) -> None:
    every = patterns(dtype)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = [(dtype, rng.permutation(every.view("<u2")).view(np.uint8)) for _ in range(3)]
        expected = run_at(native.NUMPY, TRANSFER, inputs, dtype, 1 << 16)
        assert run_at(level, TRANSFER, inputs, dtype, 1 << 16) == expected


@needs_native
def test_nothing_is_contracted() -> None:
    # a·b rounds before c is added; a fused operation would leave 2^-54.
    a = 1 + 2.0**-27
    product = (a * a).hex()
    assert math.fsum([2.0**-54]) and float.fromhex(product) == 1 + 2.0**-26
    inputs = [("F64", np.full(600, x).view(np.uint8)) for x in (a, -(1 + 2.0**-26))]
    for level in NATIVE:
        got = np.frombuffer(run_at(level, [0, ["*", a.hex()], 1, "+"], inputs, "F64", 600))
        assert (got == 0.0).all()


@needs_native
def test_a_thread_that_flushes_subnormals_gets_the_same_bits() -> None:
    torch = pytest.importorskip("torch")
    inputs = [("F32", np.arange(1, 700, dtype=np.uint32).view(np.uint8))] * 2
    expected = run_at(native.NUMPY, [0, 1, "+"], inputs, "F32", 699)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        got = [run_at(level, [0, 1, "+"], inputs, "F32", 699) for level in NATIVE]
        kept_flushing = np.array([1], np.uint32).view(np.float32).astype(np.float64)[0] == 0.0
    finally:
        torch.set_flush_denormal(False)
    assert got == [expected] * len(NATIVE)
    assert kept_flushing


@pytest.mark.parametrize("level", native.levels())
def test_lengths_that_do_not_fit(level: str) -> None:
    native.set_level(level)
    for a, b in ((b"ab", b"abcd"), (b"abc", b"abc")):
        for function in (difference, pair_sums):
            with pytest.raises(FormatError) as caught:
                function("BF16", a, b)
            assert caught.value.kind is ErrorKind.BAD_PAYLOAD
        with pytest.raises(FormatError):
            triple_sums(("BF16", a), ("BF16", b), ("BF16", b))
    with pytest.raises(FormatError) as caught:
        difference("F7", b"", b"")
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE
    with pytest.raises(InvalidInputError):
        pair_sums("I32", bytes(8), bytes(8))
    operation = derived.parse("linear", {"program": [0]}, 1)
    with pytest.raises(FormatError):
        evaluate_stored(operation, [("BF16", b"abc")], 0, "BF16", memoryview(bytearray(4)))
    with pytest.raises(InvalidInputError):
        evaluate_stored(operation, [("I32", bytes(8))], 0, "BF16", memoryview(bytearray(4)))


@needs_native
def test_programs_that_do_not_fit_are_refused() -> None:
    raw = ("F32", bytes(8))
    out = memoryview(bytearray(8))
    for program in (
        [],
        ["+"],
        [0, "-"],
        [0, 0],
        [1],
        [-1],
        [("*", 2.0)],
        [0] * 17 + ["+"] * 16,
        [0] + [("*", 1.0)] * 2048,
    ):
        with pytest.raises(FormatError):
            run_native(program, [raw], "F32", out)
    assert run_native([0] * 16 + ["+"] * 15, [raw], "F32", out)


def token(op: int, index: int = 0, scalar: float = 0.0) -> bytes:
    return struct.pack("<iid", op, index, scalar)


@needs_native
def test_the_extension_itself_refuses_malformed_arguments() -> None:
    found = native.kernels()
    assert found is not None
    module, best = found
    data, out, read_only = bytes(8), bytearray(8), memoryview(bytes(8))
    ok = token(0)
    gaps = memoryview(bytearray(16))[::2]
    calls = [
        (module.widen, (best, 9, data, bytearray(64))),
        (module.widen, (best, -1, data, bytearray(64))),
        (module.widen, (best, 1, data, bytearray(15))),
        (module.widen, (best, 1, bytes(7), bytearray(8))),
        (module.widen, (best, 1, data, bytes(16))),
        (module.widen, (best, 1, gaps, bytearray(16))),
        (module.round, (best, 1, data, out)),
        (module.round, (best, 1, bytes(9), out)),
        (module.round, (best, 6, data, out)),
        (module.count, (best, 3, bytes(3), bytes(3))),
        (module.count, (best, 0, data, data)),
        (module.count, (best, 2, data, bytes(6))),
        (module.difference, (best, 1, data, bytes(4))),
        (module.difference, (best, 7, data, data)),
        (module.pair, (best, 0, bytes(4), bytes(4))),
        (module.geometry, (best, 1, data, 1, data, 0, data)),
        (module.geometry, (best, 1, data, 8, data, 1, data)),
        (module.linear, (best, b"", b"\1", (data,), 1, out)),
        (module.linear, (best, ok[:-1], b"\1", (data,), 1, out)),
        (module.linear, (best, ok, b"", (data,), 1, out)),
        (module.linear, (best, ok, b"\1\1", (data,), 1, out)),
        (module.linear, (best, ok, b"\x09", (data,), 1, out)),
        (module.linear, (best, ok, b"\1", (bytes(7),), 1, out)),
        (module.linear, (best, ok, b"\1", [data], 1, out)),
        (module.linear, (best, ok, b"\1\1", (data, 5), 1, out)),
        (module.linear, (best, ok, b"\1\1", (data, gaps), 1, out)),
        (module.linear, (best, ok, b"\1", (data,), 1, read_only)),
        (module.linear, (best, ok, b"\1", (data,), 1, bytearray(7))),
        (module.linear, (best, ok, b"\1", (data,), 6, out)),
        (module.linear, (best, ok, b"\1" * 257, (data,) * 257, 1, out)),
        (module.linear, (best, token(0, 1), b"\1", (data,), 1, out)),
        (module.linear, (best, token(0, -1), b"\1", (data,), 1, out)),
        (module.linear, (best, token(5), b"\1", (data,), 1, out)),
        (module.linear, (best, token(-1), b"\1", (data,), 1, out)),
        (module.linear, (best, ok * 2049, b"\1", (data,), 1, out)),
    ]
    for function, args in calls:
        with pytest.raises((ValueError, TypeError, BufferError)):
            function(*args)


@needs_native
def test_levels_outside_the_range_run_what_there_is() -> None:
    found = native.kernels()
    assert found is not None
    for level in (-5, 99):
        assert found[0].difference(level, 1, bytes(8), b"\0\0\x80\x3f" * 2) == (2, 2.0)


def test_many_threads_agree() -> None:
    a, b = finite("BF16", 50_000, 1), finite("BF16", 50_000, 2)
    expected = difference("BF16", a, b)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: difference("BF16", a, b), range(50))) == [expected] * 50

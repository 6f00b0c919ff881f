"""`tensors.cast` against an oracle in exact rational arithmetic that shares no code with it."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest

from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.tensors.cast import from_float64, to_float64

# Restated by hand: exponent bits, fraction bits, has infinity, canonical NaN.
FORMATS = {
    "F32": (8, 23, True, 0x7FC00000),
    "F16": (5, 10, True, 0x7E00),
    "BF16": (8, 7, True, 0x7FC0),
    "F8_E5M2": (5, 2, True, 0x7E),
    "F8_E4M3": (4, 3, False, 0x7F),
}
SMALL = ["F16", "BF16", "F8_E5M2", "F8_E4M3"]
UINT = {8: "<u1", 16: "<u2", 32: "<u4"}


def value_of(pattern: int, dtype: str) -> float:
    """Value of a bit pattern, from the definition of the format."""
    e, f, has_inf, _ = FORMATS[dtype]
    sign = -1 if pattern >> (e + f) else 1
    exponent = (pattern >> f) & ((1 << e) - 1)
    fraction = pattern & ((1 << f) - 1)
    bias = (1 << (e - 1)) - 1
    if has_inf and exponent == (1 << e) - 1:
        return sign * math.inf if fraction == 0 else math.nan
    if not has_inf and exponent == (1 << e) - 1 and fraction == (1 << f) - 1:
        return math.nan
    if exponent == 0:
        return sign * math.ldexp(fraction, 1 - bias - f)
    return sign * math.ldexp((1 << f) + fraction, exponent - bias - f)


def oracle(x: float, dtype: str) -> int:
    """Nearest representable pattern, ties to the even pattern, by exact comparison."""
    e, f, has_inf, nan = FORMATS[dtype]
    if math.isnan(x):
        return nan
    sign = (1 << (e + f)) if math.copysign(1.0, x) < 0 else 0
    bias = (1 << (e - 1)) - 1
    overflow = ((1 << e) - 1) << f if has_inf else nan
    if math.isinf(x):
        return sign | overflow
    q = abs(Fraction(x))
    largest = overflow - 1
    # The overflow threshold: half way to the number after the largest, were the exponent unbounded.
    step = Fraction(2) ** ((largest >> f) - bias - f)
    if q >= Fraction(value_of(largest, dtype)) + step / 2:
        # At the midpoint itself, even wins: the largest when its pattern is even.
        if q == Fraction(value_of(largest, dtype)) + step / 2 and largest % 2 == 0:
            return sign | largest
        return sign | overflow
    lo, hi = 0, largest
    while lo < hi:  # greatest pattern whose value is <= q
        mid = (lo + hi + 1) // 2
        if Fraction(value_of(mid, dtype)) <= q:
            lo = mid
        else:
            hi = mid - 1
    if lo == largest:
        return sign | lo
    below, above = q - Fraction(value_of(lo, dtype)), Fraction(value_of(lo + 1, dtype)) - q
    if below < above or (below == above and lo % 2 == 0):
        return sign | lo
    return sign | (lo + 1)


def rounded(values: list[float] | np.ndarray, dtype: str) -> np.ndarray:
    e, f, _, _ = FORMATS[dtype]
    return from_float64(np.asarray(values, dtype=np.float64), dtype).view(UINT[1 + e + f])


@pytest.mark.parametrize("dtype", SMALL)
def test_every_pattern_widens_exactly_and_comes_back(dtype: str) -> None:
    e, f, _, nan = FORMATS[dtype]
    width = 1 + e + f
    patterns = np.arange(1 << width, dtype=UINT[width])
    wide = to_float64(patterns.tobytes(), dtype)
    expected = np.array([value_of(int(p), dtype) for p in patterns])
    np.testing.assert_array_equal(
        wide.view(np.uint64)[~np.isnan(expected)], expected.view(np.uint64)[~np.isnan(expected)]
    )
    assert np.array_equal(np.isnan(wide), np.isnan(expected))
    back = rounded(wide, dtype)
    np.testing.assert_array_equal(back, np.where(np.isnan(wide), nan, patterns))


def neighbours(x: float) -> list[float]:
    return [math.nextafter(x, -math.inf), x, math.nextafter(x, math.inf)]


@pytest.mark.parametrize("dtype", SMALL)
def test_midpoints_and_their_neighbours_round_to_nearest_even(dtype: str) -> None:
    e, f, _, _ = FORMATS[dtype]
    top = (1 << (e + f)) - 1
    patterns = (
        list(range(top))
        if e + f < 8
        else sorted(
            {*range(300), *range(top - 300, top), *range(0, top, 37), *(1 << k for k in range(e + f))}
        )
    )
    xs: list[float] = []
    for p in patterns:
        lo, hi = value_of(p, dtype), value_of(p + 1, dtype)
        if not (math.isfinite(lo) and math.isfinite(hi)):
            continue
        xs += neighbours((lo + hi) / 2) + neighbours(lo)
    xs += [-x for x in xs]
    np.testing.assert_array_equal(rounded(xs, dtype), [oracle(x, dtype) for x in xs])


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_random_doubles_of_every_magnitude(dtype: str) -> None:
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 1 << 64, 400, dtype=np.uint64).view(np.float64)
    near = rng.standard_normal(800) * 2.0 ** rng.integers(-160, 140, 800)
    xs = np.concatenate([bits, near])
    np.testing.assert_array_equal(rounded(xs, dtype), [oracle(float(x), dtype) for x in xs])


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_edges(dtype: str) -> None:
    e, f, has_inf, nan = FORMATS[dtype]
    bias = (1 << (e - 1)) - 1
    largest = value_of((((1 << e) - 1) << f) - 1 if has_inf else nan - 1, dtype)
    tiny = math.ldexp(1.0, 1 - bias - f)
    step = largest - value_of(oracle(largest, dtype) - 1, dtype)
    xs = [0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308]
    for x in (largest, largest + step / 2, largest + step, tiny, tiny / 2, tiny * 1.5, tiny / 4):
        xs += neighbours(x) + neighbours(-x)
    np.testing.assert_array_equal(rounded(xs, dtype), [oracle(x, dtype) for x in xs])


def test_float32_agrees_with_the_hardware_conversion() -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, 50_000, dtype=np.uint32).view(np.float32)
    wide = bits[np.isfinite(bits)].astype(np.float64)
    xs = wide + rng.uniform(-1, 1, wide.size) * np.abs(wide) * 2.0**-23
    with np.errstate(over="ignore"):
        expected = xs.astype(np.float32)
    np.testing.assert_array_equal(rounded(xs, "F32"), expected.view(np.uint32))


def test_double_rounding_through_float32_would_be_wrong_here() -> None:
    # 1 + 2^-8 is a bf16 midpoint; a hair above it, float32 rounds the hair away.
    x = 1 + 2.0**-8 + 2.0**-40
    assert rounded([x], "BF16")[0] == 0x3F81
    assert np.float32(x) == np.float32(1 + 2.0**-8)
    y = 1 + 2.0**-11 + 2.0**-50
    assert rounded([y], "F16")[0] == 0x3C01


@pytest.mark.parametrize(
    ("dtype", "nan", "plus", "minus"),
    [
        ("F64", 0x7FF8000000000000, 0x7FF0000000000000, 0xFFF0000000000000),
        ("F32", 0x7FC00000, 0x7F800000, 0xFF800000),
        ("F16", 0x7E00, 0x7C00, 0xFC00),
        ("BF16", 0x7FC0, 0x7F80, 0xFF80),
        ("F8_E5M2", 0x7E, 0x7C, 0xFC),
        ("F8_E4M3", 0x7F, 0x7F, 0xFF),
    ],
)
def test_nan_is_canonical_and_overflow_keeps_its_sign(dtype: str, nan: int, plus: int, minus: int) -> None:
    nans = [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF]
    infs = [0x7FF0000000000000, 0xFFF0000000000000]
    got = from_float64(np.array(nans + infs, dtype=np.uint64).view(np.float64), dtype)
    assert got.view(f"<u{len(got) // 6}").tolist() == [nan] * 4 + [plus, minus]


def test_float64_and_float32_round_trip_bits() -> None:
    rng = np.random.default_rng(5)
    for dtype, width in (("F64", 64), ("F32", 32)):
        bits = rng.integers(0, 1 << width, 5000, dtype=f"u{width // 8}")
        floats = bits.view(f"f{width // 8}")
        bits = bits[np.isfinite(floats)]
        bits[:2] = (1, 1 << (width - 1))  # smallest subnormal, -0
        assert from_float64(to_float64(bits.tobytes(), dtype), dtype).tobytes() == bits.tobytes()


def test_torch_agrees_on_widening_float8() -> None:
    torch = pytest.importorskip("torch")
    raw = torch.arange(256, dtype=torch.uint8)
    for dtype, kind in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        np.testing.assert_array_equal(
            to_float64(raw.numpy().tobytes(), dtype), raw.view(kind).to(torch.float32).double().numpy()
        )


@pytest.mark.parametrize("dtype", [*FORMATS, "F64"])
def test_many_blocks_equal_one_element_at_a_time(dtype: str) -> None:
    rng = np.random.default_rng(11)
    values = rng.standard_normal(40_001) * 10.0 ** rng.integers(-12, 12, 40_001)
    values[::97] = 0.0
    whole = from_float64(values, dtype)
    size = whole.size // values.size
    for i in (0, 1, 16_383, 16_384, 40_000):
        assert whole[i * size : (i + 1) * size].tobytes() == from_float64(values[i : i + 1], dtype).tobytes()
    assert from_float64(values.reshape(1, -1, 1), dtype).tobytes() == whole.tobytes()


def test_empty_and_zero_dimensional() -> None:
    assert from_float64(np.empty(0), "BF16").size == 0
    assert to_float64(b"", "F8_E4M3").size == 0
    assert from_float64(np.array(1.0), "BF16").tolist() == [0x80, 0x3F]


def test_bad_input() -> None:
    with pytest.raises(FormatError) as caught:
        to_float64(b"abc", "BF16")
    assert caught.value.kind is ErrorKind.BAD_PAYLOAD
    with pytest.raises(FormatError) as caught:
        to_float64(b"", "F7")
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE
    with pytest.raises(InvalidInputError) as refused:
        from_float64(np.zeros(1), "I32")
    assert refused.value.kind is ErrorKind.UNSUPPORTED_DTYPE


def test_a_thread_that_flushes_subnormals_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        with pytest.raises(InvalidInputError, match="subnormal"):
            to_float64(struct.pack("<f", 1e-40), "F32")
        # The way back works on integers and does not care.
        assert rounded([2.0**-149], "F32")[0] == 1
    finally:
        torch.set_flush_denormal(False)

"""DELTA and EXP in numpy: round trips, tables, fallbacks, refusals."""

import numpy as np
import pytest

from deltavcs.codec import CodecId, make_encoder, open_decoder, plan
from deltavcs.codec.api import MAX_SIDE_BYTES
from deltavcs.codec.frequency_tables import Tables, normalise, read_side, write_side
from deltavcs.codec.numbers import LAYOUTS, apply_differences, differences, order_map
from deltavcs.errors import FormatError, InvalidInputError

FLOATS = ["BF16", "F16", "F32"]
SIZES = [0, 1, 31, 32, 33, 1000]


def weights(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.02, n).astype(np.float32)
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16).view(np.uint16) if dtype == "F16" else values.view(np.uint32)


def pair(dtype: str, n: int) -> tuple[bytes, bytes]:
    base = weights(dtype, n)
    step = np.random.default_rng(1).normal(0, 3 if dtype != "F32" else 3000, n).astype(np.int64)
    return (base.astype(np.int64) + step).astype(base.dtype).tobytes(), base.tobytes()


def decoded(encoder: object, dtype: str, payload: bytes, base: bytes | None, size: int) -> bytes:
    out = bytearray(size)
    open_decoder(encoder.codec, dtype, encoder.side).decode(payload, base, memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("codec", [CodecId.EXP, CodecId.DELTA])
def test_round_trip(codec: CodecId, dtype: str, n: int) -> None:
    target, base = pair(dtype, n)
    encoder = make_encoder(codec, dtype, [(target, base)])
    assert len(encoder.side) <= MAX_SIDE_BYTES
    payload = encoder.encode(target, base)
    assert len(payload) <= len(target) + 1
    assert decoded(encoder, dtype, payload, base, len(target)) == target


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", [CodecId.EXP, CodecId.DELTA])
def test_values_unseen_in_the_sample_stay_encodable(codec: CodecId, dtype: str) -> None:
    seen = weights(dtype, 4096)
    encoder = make_encoder(codec, dtype, [(seen.tobytes(), seen.tobytes())])
    target = seen.copy()
    target[::97] = np.random.default_rng(2).integers(0, 1 << 16, target[::97].size)
    target[1] = np.iinfo(target.dtype).max
    payload = encoder.encode(target.tobytes(), seen.tobytes())
    assert payload[0] == 0
    assert decoded(encoder, dtype, payload, seen.tobytes(), target.nbytes) == target.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_plan_takes_delta_against_a_base_and_exp_alone(dtype: str) -> None:
    target, base = pair(dtype, 20000)
    assert plan(dtype, [(target, base)]).codec is CodecId.DELTA
    assert plan(dtype, [(target, None)]).codec is CodecId.EXP


@pytest.mark.parametrize("codec", [CodecId.EXP, CodecId.DELTA])
def test_upcast_bf16_is_coded_as_bf16_and_survives_a_violation(codec: CodecId) -> None:
    base = weights("BF16", 5000).astype(np.uint32) << 16
    target = base + (np.uint32(3) << 16)
    encoder = make_encoder(codec, "F32", [(target.tobytes(), base.tobytes())])
    payload = encoder.encode(target.tobytes(), base.tobytes())
    assert len(payload) < 0.4 * target.nbytes
    assert decoded(encoder, "F32", payload, base.tobytes(), target.nbytes) == target.tobytes()
    target[77] |= 1
    payload = encoder.encode(target.tobytes(), base.tobytes())
    assert decoded(encoder, "F32", payload, base.tobytes(), target.nbytes) == target.tobytes()


def test_noise_falls_back_to_raw() -> None:
    noise = np.random.default_rng(3).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    encoder = make_encoder(CodecId.DELTA, "BF16", [(bytes(4000), bytes(4000))])
    payload = encoder.encode(noise, bytes(4000))
    assert len(payload) == len(noise) + 1
    assert decoded(encoder, "BF16", payload, bytes(4000), 4000) == noise


@pytest.mark.parametrize("dtype", FLOATS)
def test_order_map_keeps_order_and_inverts(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    bits = np.random.default_rng(4).integers(0, 1 << layout.width, 1000, dtype=layout.word)
    assert (order_map(order_map(bits, layout), layout) == bits).all()
    other = bits[::-1].copy()
    assert (apply_differences(differences(bits, other, layout), other, layout) == bits).all()


def test_minus_zero_is_not_zero() -> None:
    layout = LAYOUTS["BF16"]
    assert differences(np.array([0x8000], "<u2"), np.array([0], "<u2"), layout)[0] == 1


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_frequencies_sum_to_2048(spread: float) -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(1e5 * np.exp(-np.arange(64) / spread), (17, 64))
    counts[3] = 0
    freqs = normalise(counts, np.arange(64) // 4 + 2)
    assert (freqs.sum(axis=1) == 2048).all()
    assert (freqs[:, -1] >= 1).all()
    assert (freqs >= 0).all()


def test_side_round_trip_and_limits() -> None:
    worst = np.zeros((17, 128), np.int64)
    worst[:, :126:2] = 32
    worst[:, -1] = 2048 - worst.sum(axis=1)
    tables = Tables(200, False, np.arange(17), worst)
    side = write_side(tables)
    assert len(side) <= MAX_SIDE_BYTES
    again = read_side(side, 128, 256)
    assert (again.freqs == worst).all()
    assert (again.table_of == tables.table_of).all()
    for broken in (side[:-1], side + b"\0", side[:3], b"\2" + side[1:], b"", side[:1] + b"\2" + side[2:]):
        with pytest.raises(FormatError):
            read_side(broken, 128, 256)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        make_encoder(CodecId.DELTA, "I64", [])
    with pytest.raises(FormatError):
        open_decoder(CodecId.DELTA, "I64", b"")
    with pytest.raises(InvalidInputError):
        make_encoder(CodecId.DELTA, "BF16", [(b"12", None)])


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 8, 135, 140, -1])
def test_cut_payload_is_refused(cut: int) -> None:
    target, base = pair("BF16", 2000)
    encoder = make_encoder(CodecId.DELTA, "BF16", [(target, base)])
    payload = encoder.encode(target, base)
    with pytest.raises(FormatError):
        decoded(encoder, "BF16", payload[:cut], base, len(target))

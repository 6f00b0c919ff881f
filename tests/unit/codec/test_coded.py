"""DELTA and EXP: round trips, fallbacks, refusals."""

import numpy as np
import pytest

from deltavcs.codec import CodecId, make_encoder, native_info, open_decoder
from deltavcs.codec import codec_kernels as kernels
from deltavcs.codec.api import MAX_SIDE_BYTES
from deltavcs.codec.numbers import LAYOUTS
from deltavcs.errors import FormatError
from deltavcs.testing.checkpoints import raw_tensor

FLOATS = ["BF16", "F16", "F32"]
SIZES = [0, 1, 31, 32, 33, 1000]


def weights(dtype: str, n: int) -> np.ndarray:
    return np.frombuffer(raw_tensor(dtype, [n]).data, LAYOUTS[dtype].word)


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


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 8, 135, 140, -1])
def test_cut_payload_is_refused(cut: int) -> None:
    target, base = pair("BF16", 2000)
    encoder = make_encoder(CodecId.DELTA, "BF16", [(target, base)])
    payload = encoder.encode(target, base)
    with pytest.raises(FormatError):
        decoded(encoder, "BF16", payload[:cut], base, len(target))


@pytest.mark.parametrize("codec", [CodecId.DELTA, CodecId.EXP])
@pytest.mark.parametrize("n", [20_000, 70_000])
def test_upcast_halves_that_do_not_fit_their_tables(codec, n):
    """The same payload on every level, and not twice as long as the weights."""
    rng = np.random.default_rng(3)
    fit = (rng.standard_normal(n).astype("<f4").view("<u4") & np.uint32(0xFFFF0000)).view(np.uint8)
    other = (rng.integers(0, 1 << 16, n).astype("<u4") << np.uint32(16)).view(np.uint8)
    base = fit if codec is CodecId.DELTA else None
    payloads = {}
    best = native_info().level
    try:
        for level in kernels.levels():
            kernels.set_level(level)
            encoder = make_encoder(codec, "F32", [(fit, base)])
            payload = payloads[level] = bytes(encoder.encode(other, base))
            out = bytearray(4 * n)
            open_decoder(codec, "F32", encoder.side).decode(payload, base, memoryview(out))
            assert bytes(out) == other.tobytes()
    finally:
        kernels.set_level(best)
    assert len(set(payloads.values())) == 1, {k: (v[0], len(v)) for k, v in payloads.items()}
    assert len(next(iter(payloads.values()))) < 2.2 * n

"""The codec that is chosen for what a tensor looks like, and the decoder for what is stored."""

import numpy as np
import pytest

from deltavcs.codec import CHUNK_BYTES, CodecId, make_encoder, native_info, open_decoder, plan
from deltavcs.codec import codec_kernels as kernels
from deltavcs.codec.numbers import LAYOUTS
from deltavcs.errors import ErrorKind, FormatError, InvalidInputError
from deltavcs.testing.checkpoints import raw_tensor


@pytest.fixture(autouse=True)
def best_level():
    best = native_info().level
    yield
    kernels.set_level(best)


def bf16(n: int, seed: int = 0) -> bytes:
    return raw_tensor("BF16", [n], seed=seed).data


def near_copies(n_bytes: int) -> tuple[bytes, bytes]:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, n_bytes, dtype=np.uint8)
    return (base ^ (rng.random(n_bytes) < 0.1).astype(np.uint8)).tobytes(), base.tobytes()


def test_without_kernels_long_tensors_are_not_entropy_coded() -> None:
    kernels.set_level("numpy")
    long = bf16(CHUNK_BYTES)
    assert plan("BF16", [(long, long)]).codec is CodecId.XOR
    assert plan("BF16", [(long[:65536], None)]).codec is CodecId.EXP


def test_a_poor_difference_is_compared_with_the_tensor_alone() -> None:
    assert plan("BF16", [(bytes(100_000), bf16(50_000))]).codec is CodecId.PLAIN


def test_tiny_tensors_do_not_pay_for_tables() -> None:
    base = bf16(384)
    assert plan("BF16", [(base, base)]).codec is CodecId.XOR


def test_repetition_across_chunks_does_not_pass_for_repetition() -> None:
    """The same matrix eight times over: no chunk can use another, so what the tokens say counts."""
    base = np.frombuffer(bf16(CHUNK_BYTES // 2), "<u2")
    target = base + np.random.default_rng(1).integers(0, 5, base.size).astype("<u2")
    samples = [(target[:131072].tobytes(), base[:131072].tobytes())] * 8
    assert plan("BF16", samples).codec is CodecId.DELTA


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_plan_takes_delta_against_a_base_and_exp_alone(dtype: str) -> None:
    base = np.frombuffer(raw_tensor(dtype, [20000]).data, LAYOUTS[dtype].word)
    target = (base + np.random.default_rng(1).integers(-3, 4, base.size)).astype(base.dtype).tobytes()
    base = base.tobytes()
    assert plan(dtype, [(target, base)]).codec is CodecId.DELTA
    assert plan(dtype, [(target, None)]).codec is CodecId.EXP


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        make_encoder(CodecId.DELTA, "I64", [])
    with pytest.raises(FormatError):
        open_decoder(CodecId.DELTA, "I64", b"")
    with pytest.raises(InvalidInputError):
        make_encoder(CodecId.DELTA, "BF16", [(b"12", None)])


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 1000])
def test_plan_takes_xor_for_near_copies_and_raw_for_noise(n: int) -> None:
    target, base = near_copies(n * 8)
    chosen = plan("I64", [(target, base)])
    if n >= 31:
        assert chosen.codec is CodecId.XOR
        assert plan("U8", [(base, None)]).codec is CodecId.RAW
        assert plan("U8", [(b"ab" * n, None)]).codec is CodecId.PLAIN
    out = bytearray(len(target))
    payload = chosen.encode(target, base)
    open_decoder(chosen.codec, "I64", chosen.side).decode(payload, base, memoryview(out))
    assert bytes(out) == target


def test_samples_longer_than_the_trial_are_sampled() -> None:
    target, base = near_copies(1 << 20)
    halves = [(target[: 1 << 19], base[: 1 << 19]), (target[1 << 19 :], base[1 << 19 :])]
    assert plan("U16", halves).codec is CodecId.XOR


def test_unknown_codec_and_unwanted_side_are_refused() -> None:
    with pytest.raises(FormatError) as caught:
        open_decoder(255, "U8", b"")
    assert caught.value.kind is ErrorKind.UNSUPPORTED_FEATURE
    with pytest.raises(FormatError):
        open_decoder(CodecId.RAW, "U8", b"x")

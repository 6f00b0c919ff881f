"""RAW, PLAIN and XOR: round trips, and refusal of everything that does not follow the format."""

import numpy as np
import pytest
import zstandard

from deltavcs.codec import CodecId, make_encoder, needs_base, open_decoder
from deltavcs.errors import DeltaVCSError, ErrorKind, FormatError, InvalidInputError

SIMPLE = [CodecId.RAW, CodecId.PLAIN, CodecId.XOR]
SIZES = [0, 1, 31, 32, 33, 1000]


def pair(n_bytes: int, seed: int = 0) -> tuple[bytes, bytes]:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, n_bytes, dtype=np.uint8)
    target = base ^ (rng.random(n_bytes) < 0.1).astype(np.uint8)
    return target.tobytes(), base.tobytes()


def round_trip(
    codec: int, dtype: str, target: bytes, base: bytes | None, side: bytes, payload: bytes
) -> None:
    out = bytearray(len(target))
    open_decoder(codec, dtype, side).decode(payload, base, memoryview(out))
    assert bytes(out) == target


@pytest.mark.parametrize("codec", SIMPLE)
@pytest.mark.parametrize(("dtype", "itemsize"), [("U8", 1), ("BF16", 2), ("F32", 4), ("I64", 8), ("F4", 1)])
@pytest.mark.parametrize("n", SIZES)
def test_round_trip(codec: CodecId, dtype: str, itemsize: int, n: int) -> None:
    target, base = pair(n * itemsize)
    against = base if needs_base(codec) else None
    encoder = make_encoder(codec, dtype, [(target, against)])
    payload = encoder.encode(target, against)
    round_trip(encoder.codec, dtype, target, against, encoder.side, payload)


@pytest.mark.parametrize("codec", [CodecId.PLAIN, CodecId.XOR])
def test_frame_of_another_size_is_refused_before_it_is_inflated(codec: CodecId) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(FormatError) as caught:
        open_decoder(codec, "U8", b"").decode(bomb, bytes(64), memoryview(bytearray(64)))
    assert caught.value.kind is ErrorKind.BAD_PAYLOAD


def test_frame_without_stated_size_or_with_a_tail_is_refused() -> None:
    unstated = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64))
    tailed = zstandard.ZstdCompressor().compress(bytes(64)) + b"x"
    for payload in (unstated, tailed, b"", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(FormatError):
            open_decoder(CodecId.PLAIN, "U8", b"").decode(payload, None, memoryview(bytearray(64)))


def test_raw_of_another_length_is_refused() -> None:
    with pytest.raises(FormatError):
        open_decoder(CodecId.RAW, "U8", b"").decode(b"12", None, memoryview(bytearray(3)))


@pytest.mark.parametrize("base", [None, b"1"])
def test_missing_or_short_base_is_the_callers_error(base: bytes | None) -> None:
    encoder = make_encoder(CodecId.XOR, "U8", [])
    with pytest.raises(InvalidInputError):
        encoder.encode(b"12", base)
    with pytest.raises(DeltaVCSError):
        open_decoder(CodecId.XOR, "U8", b"").decode(
            encoder.encode(b"12", b"34"), base, memoryview(bytearray(2))
        )


def test_half_elements_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        make_encoder(CodecId.PLAIN, "BF16", []).encode(b"123", None)
    with pytest.raises(FormatError):
        open_decoder(CodecId.PLAIN, "BF16", b"").decode(b"", None, memoryview(bytearray(3)))

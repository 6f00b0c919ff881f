"""Codec laws: decode undoes encode bit for bit, every kernel equals numpy, damage raises only FormatError."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltavcs.codec import CHUNK_BYTES, CodecId, make_encoder, open_decoder, plan
from deltavcs.codec.codec_kernels import levels, native_info, set_level
from deltavcs.codec.delta import count_tokens
from deltavcs.codec.frequency_tables import read_side, write_side
from deltavcs.codec.numbers import LAYOUTS
from deltavcs.errors import FormatError

_spec = importlib.util.spec_from_file_location("codec_reader", Path(__file__).with_name("codec_reader.py"))
codec_reader = sys.modules["codec_reader"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(codec_reader)

FLOATS = ["BF16", "F16", "F32"]
WORDS = {"BF16": "<u2", "F16": "<u2", "F32": "<u4"}
CODED = [CodecId.EXP, CodecId.DELTA]
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def best_level():
    best = native_info().level
    yield
    set_level(best)


def decoded(encoder, dtype: str, payload: bytes, base: bytes, size: int) -> bytes:
    out = bytearray(size)
    open_decoder(encoder.codec, dtype, encoder.side).decode(payload, base, memoryview(out))
    return bytes(out)


def at_every_level(codec: CodecId, dtype: str, target: bytes, base: bytes, sample=None, numpy: bool = True):
    """Encode and decode with the same tables at every level; all must agree."""
    encoder = make_encoder(codec, dtype, [(target, base)] if sample is None else sample)
    reference = None
    for level in levels() if numpy else levels()[1:] or levels():
        set_level(level)
        payload = encoder.encode(target, base)
        reference = payload if reference is None else reference
        assert payload == reference, level
        assert decoded(encoder, dtype, payload, base, len(target)) == target, level
    return encoder, payload


@pytest.mark.parametrize("dtype", FLOATS)
def test_sides_and_histograms_are_the_same_at_every_level(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    rng = np.random.default_rng(15)
    base = rng.integers(0, 1 << layout.width, 5000, dtype=layout.word)
    target = (base + (1 << rng.integers(0, layout.width, 5000))).astype(layout.word)
    counts, sides = [], set()
    tables = make_encoder(CodecId.DELTA, dtype, [(target.tobytes(), base.tobytes())]).tables
    for level in levels():
        set_level(level)
        counts.append(count_tokens(target, base, layout))
        sides.add(write_side(tables))
        assert (read_side(min(sides), layout.n_tokens, layout.exponents).freqs == tables.freqs).all()
    assert all((found == counts[0]).all() for found in counts)
    assert len(sides) == 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_chooses_tables_as_good_as_the_kernels(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    rng = np.random.default_rng(16)
    base = (rng.normal(0, 0.02, 50000).astype("<f4").view("<u4") >> (32 - layout.width)).astype(layout.word)
    target = (base + rng.normal(0, 5, 50000).astype(np.int64)).astype(layout.word)
    stored = []
    for level in levels():
        set_level(level)
        encoder = make_encoder(CodecId.DELTA, dtype, [(target.tobytes(), base.tobytes())])
        stored.append(len(encoder.side) + len(encoder.encode(target.tobytes(), base.tobytes())))
    assert max(stored) <= 1.001 * min(stored)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("base", [0, 0x8000, 0x3F80, 0x0001, 0x7F80, 0x7FC1, 0xFF80, 0xFFFF])
def test_every_16_bit_pattern_against_special_bases(dtype: str, base: int) -> None:
    target = np.arange(1 << 16, dtype="<u2")
    against = np.full(1 << 16, base, "<u2").tobytes()
    seen = [(against, against)]
    for codec in CODED:
        at_every_level(codec, dtype, target.tobytes(), against, numpy=False)
        at_every_level(codec, dtype, target.tobytes(), against, sample=seen, numpy=False)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 63, 64, 65, 96, 2048, 65536 + 33])
def test_sizes(codec: CodecId, dtype: str, n: int) -> None:
    rng = np.random.default_rng(n)
    base = (rng.normal(0, 0.02, n).astype("<f4").view("<u4") >> (16 if WORDS[dtype] == "<u2" else 0)).astype(
        WORDS[dtype]
    )
    target = (base + rng.integers(-40, 40, n)).astype(WORDS[dtype])
    at_every_level(codec, dtype, target.tobytes(), base.tobytes(), numpy=n < 3000)


@pytest.mark.parametrize("off", [-2, 0, 2])
def test_chunk_boundary_sizes(off: int) -> None:
    rng = np.random.default_rng(9)
    base = rng.normal(0, 0.02, CHUNK_BYTES // 2 + off // 2).astype("<f4").view("<u4") >> 16
    base = base.astype("<u2")
    target = (base + rng.integers(-4, 4, base.size)).astype("<u2")
    at_every_level(CodecId.DELTA, "BF16", target.tobytes(), base.tobytes(), numpy=False)


HISTOGRAMS = {
    "all equal": lambda rng, n: np.zeros(n, np.int64),
    "all different": lambda rng, n: np.arange(n) * 7919,
    "one outlier": lambda rng, n: np.eye(1, n, n // 2, dtype=np.int64)[0] * 30000,
    "two values": lambda rng, n: rng.integers(0, 2, n) * 0x7FFF,
    "geometric": lambda rng, n: 1 << rng.integers(0, 16, n),
    "rare tail": lambda rng, n: np.where(rng.random(n) < 0.001, rng.integers(0, 1 << 16, n), 1),
    "uniform": lambda rng, n: rng.integers(0, 1 << 32, n),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("shape", HISTOGRAMS)
def test_adversarial_histograms(codec: CodecId, dtype: str, shape: str) -> None:
    rng = np.random.default_rng(11)
    word = WORDS[dtype]
    base = rng.integers(0, 1 << 32, 3000).astype(word)
    target = (base.astype(np.int64) + HISTOGRAMS[shape](rng, 3000)).astype(word)
    _, payload = at_every_level(codec, dtype, target.tobytes(), base.tobytes())
    assert len(payload) <= target.nbytes + 1


@quick
@given(data=st.data())
def test_any_bytes_round_trip_even_with_tables_of_another_tensor(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    codec = data.draw(st.sampled_from(list(CodecId)))
    width = np.dtype(WORDS[dtype]).itemsize
    n = data.draw(st.integers(0, 200))
    target, base, seen = (data.draw(st.binary(min_size=n * width, max_size=n * width)) for _ in range(3))
    sample = [(seen, seen)] if data.draw(st.booleans()) else [(target, base)]
    _, payload = at_every_level(codec, dtype, target, base, sample=sample)
    assert len(payload) <= len(target) + 64


@quick
@given(data=st.data())
def test_planned_tensors_round_trip(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["U8", "F4", "I64", "F64", "BOOL", *FLOATS]))
    n = data.draw(st.integers(0, 700)) * 8
    base = np.frombuffer(data.draw(st.binary(min_size=n, max_size=n)), np.uint8)
    flips = np.random.default_rng(n).random(n) < data.draw(st.sampled_from([0, 0.01, 0.5]))
    target = (base ^ flips).tobytes()
    against = base.tobytes() if data.draw(st.booleans()) else None
    encoder = plan(dtype, [(target, against)])
    out = bytearray(n)
    decoder = open_decoder(encoder.codec, dtype, encoder.side)
    decoder.decode(encoder.encode(target, against), against, memoryview(out))
    assert bytes(out) == target


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", CODED)
def test_independent_reader_agrees(codec: CodecId, dtype: str) -> None:
    rng = np.random.default_rng(12)
    word = np.dtype(WORDS[dtype])
    base = (rng.normal(0, 0.02, 70000).astype("<f4").view("<u4") >> (32 - 8 * word.itemsize)).astype(word)
    step = np.where(
        rng.random(70000) < 0.01, rng.integers(-(1 << 15), 1 << 15, 70000), rng.integers(-9, 9, 70000)
    )
    target = (base.astype(np.int64) + step).astype(word)
    encoder = make_encoder(codec, dtype, [(target.tobytes(), base.tobytes())])
    payload = encoder.encode(target.tobytes(), base.tobytes())
    assert payload[:2] == b"\0\2"
    if codec is CodecId.DELTA:
        found = codec_reader.read_delta(dtype, encoder.side, payload, base.tolist())
    else:
        found = codec_reader.read_exp(dtype, encoder.side, payload, base.size)
    assert found == target.tolist()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not changed:
            return b"\0"
        at = int(rng.integers(len(changed)))
        match rng.integers(4):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at] = int(rng.choice([0, 1, 2, 127, 128, 255]))
            case 2:
                del changed[at : at + int(rng.integers(1, 9))]
            case _:
                changed[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(changed)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("codec", list(CodecId))
@pytest.mark.parametrize("dtype", FLOATS)
def test_damage_gives_bytes_or_a_format_error(dtype: str, codec: CodecId, level: str) -> None:
    rng = np.random.default_rng(13)
    word = WORDS[dtype]
    base = rng.integers(0, 1 << 16, 700).astype(word)
    target = (base + rng.integers(0, 9, 700)).astype(word)
    pair = target.tobytes(), base.tobytes()
    set_level(level)
    encoder = make_encoder(codec, dtype, [pair])
    payload = encoder.encode(*pair)
    for i in range(120 if level == "numpy" else 400):
        side = mutated(encoder.side, rng) if encoder.side and i % 3 == 0 else encoder.side
        broken = payload if side != encoder.side and i % 2 else mutated(payload, rng)
        if i % 10 == 9:
            broken = rng.bytes(int(rng.integers(0, 400)))
        out = np.full(target.nbytes + 128, 0xA5, np.uint8)
        try:
            decoder = open_decoder(encoder.codec, dtype, side)
            decoder.decode(broken, pair[1], memoryview(out)[64:-64])
        except FormatError:
            pass
        assert (out[:64] == 0xA5).all()
        assert (out[-64:] == 0xA5).all()


@pytest.mark.parametrize("level", levels())
def test_levels_agree_on_damaged_payloads(level: str) -> None:
    rng = np.random.default_rng(14)
    base = rng.integers(0, 1 << 16, 400).astype("<u2")
    target = (base + rng.integers(0, 60, 400)).astype("<u2")
    encoder = make_encoder(CodecId.DELTA, "BF16", [(target.tobytes(), base.tobytes())])
    payload = encoder.encode(target.tobytes(), base.tobytes())
    for _ in range(60):
        broken, results = mutated(payload, rng), []
        for name in ("numpy", level):
            set_level(name)
            try:
                results.append(decoded(encoder, "BF16", broken, base.tobytes(), target.nbytes))
            except FormatError:
                results.append(None)
        assert results[0] == results[1]

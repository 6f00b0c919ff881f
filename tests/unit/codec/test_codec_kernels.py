"""Which kernels run, and what every level does at the limits of a section."""

import numpy as np
import pytest

from deltavcs.codec import (
    CHUNK_BYTES,
    CodecId,
    make_encoder,
    native_info,
    open_decoder,
)
from deltavcs.codec import codec_kernels as kernels
from deltavcs.errors import FormatError, InvalidInputError
from deltavcs.testing.checkpoints import raw_tensor


@pytest.fixture(autouse=True)
def best_level():
    best = native_info().level
    yield
    kernels.set_level(best)


def bf16(n: int, seed: int = 0) -> bytes:
    return raw_tensor("BF16", [n], seed=seed).data


def test_numpy_is_always_a_level_and_the_best_is_used() -> None:
    assert kernels.levels()[0] == "numpy"
    assert native_info().level == kernels.levels()[-1]
    assert native_info().available == (len(kernels.levels()) > 1)
    assert native_info().why


@pytest.mark.parametrize("name", kernels.levels())
def test_a_level_can_be_forced(name: str) -> None:
    kernels.set_level(name)
    assert native_info().level == name
    assert (kernels.kernels() is None) == (name == "numpy")


def test_unknown_level_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        kernels.set_level("avx1024")


@pytest.mark.parametrize("name", kernels.levels())
@pytest.mark.parametrize("which", [CodecId.DELTA, CodecId.EXP])
def test_a_state_below_the_limit_is_damage_at_every_level(name: str, which: CodecId) -> None:
    base = bf16(5000)
    target = (
        (np.frombuffer(base, "<u2") + np.random.default_rng(2).integers(0, 9, 5000)).astype("<u2").tobytes()
    )
    encoder = make_encoder(which, "BF16", [(target, base)])
    payload = bytearray(encoder.encode(target, base))
    assert (payload[0], payload[1]) == (0, 1)
    kernels.set_level(name)
    decoder = open_decoder(which, "BF16", encoder.side)
    out = memoryview(bytearray(len(target)))
    decoder.decode(payload, base, out)
    assert out == target
    # Lanes 0 and 31: the first states after the mode and the number of words.
    for lane in (0, 31):
        broken = bytearray(payload)
        broken[8 + 4 * lane : 12 + 4 * lane] = (0xFFFF).to_bytes(4, "little")
        with pytest.raises(FormatError, match="payload does not follow"):
            decoder.decode(broken, base, out)


@pytest.mark.parametrize("name", kernels.levels())
@pytest.mark.parametrize("n", [4096, 70_001, CHUNK_BYTES // 2])
def test_weights_that_hardly_changed_decode_from_few_words_and_no_fewer(name: str, n: int) -> None:
    """Nearly all groups come when less than a group's most words are left, where loads need room."""
    base = np.frombuffer(bf16(n), "<u2")
    target = base.copy()
    changed = np.random.default_rng(3).choice(n, n // 1000, replace=False)
    target[changed] += 3000
    encoder = make_encoder(CodecId.DELTA, "BF16", [(target.tobytes(), base.tobytes())])
    payload = encoder.encode(target.tobytes(), base.tobytes())
    n_sections = payload[1]
    assert payload[0] == 0
    assert len(payload) < n // 50 + 300 * n_sections
    kernels.set_level(name)
    decoder = open_decoder(CodecId.DELTA, "BF16", encoder.side)
    out = memoryview(bytearray(2 * n))
    decoder.decode(payload, base.tobytes(), out)
    assert out == target.tobytes()
    for section in range(n_sections):
        at = 4 + 4 * section
        n_words = int.from_bytes(payload[at : at + 4], "little")
        fewer = bytearray(payload)
        fewer[at : at + 4] = (n_words - 1).to_bytes(4, "little")
        end = 4 + 132 * n_sections
        end += 2 * sum(int.from_bytes(payload[4 + 4 * i : 8 + 4 * i], "little") for i in range(section + 1))
        del fewer[end - 2 : end]
        with pytest.raises(FormatError, match="payload does not follow"):
            decoder.decode(fewer, base.tobytes(), out)

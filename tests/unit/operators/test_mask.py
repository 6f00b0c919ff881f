"""The random masks: SplitMix64 as published, independent, the same wherever a block starts."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from derived_blocks import splitmix64

from deltavcs.operators.mask import keep_mask, mask_key, random_words

H = float.hex


def test_random_words_are_splitmix64() -> None:
    assert [hex(int(w)) for w in random_words(0, 0, 3)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    for key in (1234567, 2**64 - 1, 0xDEADBEEF << 20):
        reference = splitmix64(key)
        expected = [next(reference) for _ in range(70)]
        assert random_words(key, 0, 70).tolist() == expected
        assert random_words(key, 33, 37).tolist() == expected[33:]


def test_words_do_not_depend_on_where_a_block_starts() -> None:
    whole = random_words(99, 0, 40_000)
    for start, count in ((0, 1), (16_383, 2), (16_384, 20_000), (39_999, 1), (7, 0)):
        np.testing.assert_array_equal(random_words(99, start, count), whole[start : start + count])


def test_mask_key_is_as_specified() -> None:
    text = b"deltavcs dare v1\0" + (7).to_bytes(8, "little") + (2).to_bytes(4, "little") + "é.weight".encode()
    assert mask_key(7, "é.weight", 2) == int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def binomial_slack(n: int, p: float, sigmas: float = 5.0) -> float:
    return sigmas * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mask_rate_and_independence(p: float) -> None:
    n = 400_000
    keep = round(p * 2**32)
    a = keep_mask(mask_key(0, "w", 0), keep, 0, n)
    assert abs(int(a.sum()) - n * p) < binomial_slack(n, p)
    others = [
        keep_mask(mask_key(0, "w", 1), keep, 0, n),  # another fine-tune
        keep_mask(mask_key(1, "w", 0), keep, 0, n),  # another seed
        keep_mask(mask_key(0, "v", 0), keep, 0, n),  # another tensor
        *(np.roll(a, lag) for lag in (1, 2, 64, 4096)),  # another element
    ]
    for b in others:
        both = int((a & b).sum())
        assert abs(both - n * p * p) < binomial_slack(n, p * p)
    # Runs: counts in 256 equal cells follow the binomial (chi-square, 256 degrees of freedom).
    cells = a[: n // 256 * 256].reshape(256, -1)
    size = cells.shape[1]
    chi2 = float((((cells.sum(axis=1) - size * p) ** 2) / (size * p * (1 - p))).sum())
    assert abs(chi2 - 256) < 6 * math.sqrt(2 * 256)


def test_mask_bounds() -> None:
    assert not keep_mask(5, 0, 0, 1000).any()
    assert keep_mask(5, 1 << 32, 0, 1000).all()
    word = next(splitmix64(5)) >> 32
    assert not keep_mask(5, word, 0, 1)[0]
    assert keep_mask(5, word + 1, 0, 1)[0]

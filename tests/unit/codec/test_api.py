"""Codec numbers and their words; buffers as bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deltavcs.codec import MAX_CHUNK_BYTES, CodecId, codec_word, make_encoder, needs_base
from deltavcs.codec.api import as_bytes
from deltavcs.errors import InvalidInputError


def test_words_are_those_of_the_spec() -> None:
    text = (Path(__file__).parents[3] / "docs/spec/v1.md").read_text()
    (line,) = re.findall(r"\| codec: (.*) \|", text)
    words = dict(re.findall(r"(\d+) ([a-z]+)", line))
    assert words == {**{str(c.value): c.word for c in CodecId}, "255": codec_word(255)}


def test_a_number_without_a_word_is_its_own() -> None:
    assert [codec_word(n) for n in (0, 3, 5, 254, 255)] == ["raw", "exp", "5", "254", "derived"]


def test_needs_base_names_the_codecs_that_do() -> None:
    assert [codec.name for codec in CodecId if needs_base(codec)] == ["XOR", "DELTA"]


def test_elements_that_do_not_lie_together_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        as_bytes(np.zeros((8, 8), np.uint8)[:, ::2])


def test_chunks_have_a_limit() -> None:
    encoder = make_encoder(CodecId.RAW, "U8", [])
    with pytest.raises(InvalidInputError):
        encoder.encode(bytes(MAX_CHUNK_BYTES + 1), None)

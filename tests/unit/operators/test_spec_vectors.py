"""The test vectors printed in docs/spec/v1-derived.md are what the code computes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from derived_blocks import evaluate

from deltavcs.operators.mask import mask_key, random_words
from deltavcs.operators.parse import OPERATORS
from deltavcs.tensors.cast import from_float64

SPEC = Path(__file__).parents[3] / "docs" / "spec" / "v1-derived.md"


def vectors() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in re.findall(r"```json\n(.*?)```", SPEC.read_text(encoding="utf-8"), re.DOTALL):
        found.update(json.loads(block))
    return found


def floats(texts: list[str]) -> np.ndarray:
    return np.array([float.fromhex(text) for text in texts])


def test_rounding() -> None:
    header, *rows = vectors()["rounding"]
    assert header == ["float64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"]
    assert len(rows) > 20
    for value, *patterns in rows:
        for dtype, pattern in zip(header[1:], patterns, strict=True):
            got = from_float64(floats([value]), dtype)[::-1].tobytes().hex()
            assert got == pattern, (value, dtype)


def test_generator() -> None:
    found = vectors()
    for seed, outputs in found["splitmix64"].items():
        assert [f"{int(w):016x}" for w in random_words(int(seed), 0, len(outputs))] == outputs
    for seed, stream, tensor, key in found["keys"]:
        assert f"{mask_key(seed, tensor, stream):016x}" == key


def test_operators() -> None:
    found = vectors()
    inputs = [floats(texts) for texts in found["inputs"]]
    assert {case["op"] for case in found["results"]} == set(OPERATORS)
    for case in found["results"]:
        values = evaluate(case["op"], case["params"], inputs, case["start"])
        assert [float(x).hex() for x in values] == case["float64"]
        for dtype in ("BF16", "F32"):
            assert from_float64(values, dtype).tobytes().hex() == case[dtype]

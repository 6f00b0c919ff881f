"""Which scale belongs to which weight."""

from __future__ import annotations

import pytest

from deltavcs.checkpoint.scaled_floats import ScaledFloats, match_scales
from deltavcs.objects.model import TensorEntry
from deltavcs.oid import BlobId


def entry(dtype: str, *shape: int) -> TensorEntry:
    return TensorEntry(BlobId("0" * 64), dtype, shape)


def match(weight, scale, *, block=None, method="fp8", kind="scale_inv", dtype="F32"):
    tensors = {"w": entry("F8_E4M3", *weight), "s": entry(dtype, *scale)}
    return match_scales({"w": {kind: "s"}}, tensors, method=method, block=block)


@pytest.mark.parametrize(
    ("weight", "scale", "block", "expected"),
    [
        ((256, 384), (2, 3), (128, 128), (128, 128, (2, 3))),
        ((200, 300), (2, 3), (128, 128), (128, 128, (2, 3))),  # the last blocks are smaller
        ((200, 300), (2, 3), None, (128, 128, (2, 3))),  # not 100 rows, though 2 divides 200
        ((48, 32), (2, 1), (32, 32), (32, 32, (2, 1))),
        ((48, 32), (), (128, 128), (48, 32, (1, 1))),
        ((48, 32), (1,), None, (48, 32, (1, 1))),
        ((48, 32), (48, 1), None, (1, 32, (48, 1))),
        ((48, 32), (48,), None, (1, 32, (48, 1))),
        ((48, 32), (48, 4), None, (1, 8, (48, 4))),
        ((3, 48, 32), (3, 1, 1), None, (128, 128, (1, 1))),
        ((3, 48, 32), (3,), None, (128, 128, (1, 1))),
        ((3, 48, 32), (3, 2, 1), (32, 32), (32, 32, (2, 1))),
        ((32,), (), None, (1, 32, (1, 1))),
    ],
)
def test_blocks(weight, scale, block, expected):
    assert match(weight, scale, block=block) == {"w": ScaledFloats("s", *expected)}


@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        ((200, 320), (4, 5)),  # 50 rows, or 64 and a smaller last block
        ((48, 60), (48, 3)),
        ((48, 32), (5, 3)),
        ((48, 32), (32,)),
        ((3, 48, 32), (1,)),
        ((48, 32), (2, 2, 1)),
        ((48, 0), (1, 1)),
    ],
)
def test_scales_that_fit_no_block_are_said(weight, scale):
    found = match(weight, scale)
    assert isinstance(found, str)
    assert str(list(weight)) in found


def test_a_part_of_a_tensor_has_no_name_of_a_weight():
    tensors = {"q._weight_qdata": entry("F8_E4M3", 8, 8), "s": entry("F32", 8)}
    assert "not called" in str(
        match_scales({"q._weight_qdata": {"scale": "s"}}, tensors, method="", block=None)
    )


def test_what_is_not_floats_times_one_scale_is_said():
    assert match((8, 8), (1, 1), method="gptq") == "gptq is none of 8-bit floats with scales"
    assert match((8, 8), (1, 1), dtype="F8_E4M3") == "w has scales of dtype F8_E4M3"
    packed = {"w": entry("I8", 8, 8), "s": entry("F32", 1)}
    assert match_scales({"w": {"scale": "s"}}, packed, method="", block=None) == "w is I8"
    two = {"w": entry("F8_E4M3", 8, 8), "s": entry("F32", 1), "z": entry("F32", 1)}
    beside = {"scale": "s", "zero_point": "z"}
    assert "scale and zero_point" in str(match_scales({"w": beside}, two, method="", block=None))
    assert "no scale" in str(match_scales({"w": {"input_scale": "s"}}, two, method="", block=None))

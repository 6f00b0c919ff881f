"""Pickled weights that stand there as safetensors too, by their name."""

from __future__ import annotations

import pytest

from deltavcs.checkpoint.left_by_default import superseded


@pytest.mark.parametrize(
    ("name", "kept", "expected"),
    [
        ("pytorch_model.bin", ["model.safetensors"], True),
        ("pytorch_model.bin", ["model-00001-of-00002.safetensors"], True),
        ("pytorch_model.bin", ["model.safetensors.index.json"], True),
        ("pytorch_model-00001-of-00002.bin", ["model.safetensors"], True),
        ("pytorch_model.bin.index.json", ["model.safetensors"], True),
        ("pytorch_model.fp16.bin", ["model.fp16.safetensors"], True),
        ("pytorch_model.fp16.bin", ["model.safetensors"], False),
        ("pytorch_model.bin", ["model.fp16.safetensors"], False),
        ("adapter_model.bin", ["adapter_model.safetensors"], True),
        ("adapter_model.bin", ["model.safetensors"], False),
        ("diffusion_pytorch_model.bin", ["diffusion_pytorch_model.safetensors"], True),
        ("pooler.bin", ["model.safetensors"], False),
        ("pytorch_model_extra.bin", ["model.safetensors"], False),
        ("pytorch_model.pt", ["model.safetensors"], False),
        ("model.bin", ["model.safetensors"], True),
        ("pytorch_model.bin", [], False),
    ],
)
def test_the_twin_is_found_by_its_name(name, kept, expected):
    assert superseded(name, [name, *kept]) is expected

"""Quantised checkpoints as transformers models: as `from_pretrained` loads them, or refused by scheme."""

from __future__ import annotations

import pytest
import torch
from quantised_weights import block_scaled, edit_config, quantise_folder, unscaled
from safetensors.torch import load_file, save_file
from tiny_llama import build_model

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model
from deltavcs.steps.recording import Draft

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="transformers then keeps fp8 for the GPU")


@pytest.fixture
def folder(tmp_path):
    build_model(dtype=torch.bfloat16).save_pretrained(tmp_path / "fp8")
    return tmp_path / "fp8"


def imported(repo, folder, sign):
    import_base(repo, str(folder), draft=Draft("fp8", signature=sign()))
    return repo


@needs_no_gpu
def test_as_a_fresh_load(repo, folder, sign):
    from transformers import AutoModelForCausalLM

    quantise_folder(folder)
    found = load_model(imported(repo, folder, sign), "fp8")
    fresh = AutoModelForCausalLM.from_pretrained(folder)
    for ours, theirs in zip(found.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_dequantised_it_is_a_plain_model(repo, folder, sign):
    quantise_folder(folder, 32, 32)  # 48 rows: a block and a half
    state = load_file(folder / "model.safetensors")
    found = load_model(imported(repo, folder, sign), "fp8", dequantize=True)
    for name, ours in found.state_dict().items():
        scales = state.get(f"{name}_scale_inv")
        whole = state[name] if scales is None else unscaled(state[name], scales, 32, 32)
        assert torch.equal(ours, whole.to(torch.bfloat16))
    assert getattr(found.config, "quantization_config", None) is None


@needs_no_gpu
def test_blocks_that_transformers_takes_for_smaller_ones(repo, folder, sign):
    quantise_folder(folder, 32, 32)
    with pytest.raises(InvalidInputError, match="block-scaled fp8") as caught:
        load_model(imported(repo, folder, sign), "fp8")
    assert caught.value.kind is ErrorKind.QUANTISED


def test_a_quantiser_that_is_not_here(repo, folder, sign):
    state = load_file(folder / "model.safetensors")
    w = state.pop("model.layers.0.self_attn.q_proj.weight")
    state["model.layers.0.self_attn.q_proj.qweight"] = torch.zeros(4, 32, dtype=torch.int32)
    state["model.layers.0.self_attn.q_proj.scales"] = torch.ones(1, w.shape[0])
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    edit_config(folder, quantization_config={"quant_method": "aqlm"})
    with pytest.raises(
        InvalidInputError, match=r"^fp8 is quantised \(AQLM.*, and transformers cannot load it here: "
    ) as caught:
        load_model(imported(repo, folder, sign), "fp8")
    assert caught.value.kind is ErrorKind.QUANTISED


def test_numbers_that_config_json_does_not_speak_of(repo, folder, sign):
    state = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    state[name], state[f"{name}_scale_inv"] = block_scaled(state[name], 16, 16)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInputError, match="no weights to compute with"):
        load_model(imported(repo, folder, sign), "fp8")

"""Weights of 8-bit floats with scales, against transformers and against the blocks written out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from quantised_weights import block_scaled, unscaled
from safetensors.torch import load_file, save_file

from deltavcs.checkpoint.dequantise import dequantise
from deltavcs.checkpoint.view import view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.recording import Draft

W = "q_proj.weight"


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def stored(repo, folder, sign, state, **config):
    """A checkpoint of those tensors, imported as `q`."""
    folder.mkdir()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    import_base(repo, str(folder), draft=Draft("q", signature=sign()))


def how(*block: int):
    return {"quant_method": "fp8", "weight_block_size": list(block)}


@pytest.mark.parametrize("shape", [(256, 128), (300, 200), (64, 32), (129, 1)])
def test_blocks_of_a_release(repo, tmp_path, sign, shape):
    packed, scales = block_scaled(weight(*shape), 128, 128)
    state = {W: packed, f"{W}_scale_inv": scales, "norm.weight": torch.ones(4)}
    stored(repo, tmp_path / "q", sign, state, torch_dtype="float32", quantization_config=how(128, 128))
    found = checkout(repo, "q", dequantize=True)
    assert found.keys() == {W, "norm.weight"}
    assert torch.equal(found[W], unscaled(packed, scales, 128, 128).to(torch.float32))
    assert torch.equal(found["norm.weight"], state["norm.weight"])


def test_as_transformers_dequantises(repo, tmp_path, sign):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    packed, scales = block_scaled(weight(96, 64), 32, 32)
    stored(repo, tmp_path / "q", sign, {W: packed, f"{W}_scale_inv": scales}, quantization_config=how(32, 32))
    expected = Fp8Dequantize(None)._dequantize_one(packed, scales, output_dtype=torch.bfloat16)
    found = checkout(repo, "q", dequantize=True)[W]
    assert found.dtype == torch.bfloat16
    # transformers rounds to float32 first; nothing here lies next to a midpoint.
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("q_proj.weight_scale", torch.tensor(0.5)),
        ("q_proj.weight_scale", torch.rand(48, 1, dtype=torch.bfloat16)),
        ("q_proj.weight_scale", torch.rand(48)),
        ("q_proj.weight_scale_inv", torch.rand(48, 4)),
        ("q_proj.scale_weight", torch.tensor([0.25], dtype=torch.float16)),
    ],
)
def test_one_scale_for_a_matrix_a_row_or_a_group(repo, tmp_path, sign, name, scales):
    packed = weight(48, 32).to(torch.float8_e4m3fn)
    state = {W: packed, name: scales, "q_proj.input_scale": torch.tensor(1.0)}
    stored(repo, tmp_path / "q", sign, state, dtype="float32")
    grid = scales.reshape(-1, 1) if scales.ndim < 2 else scales
    expected = packed.double() * grid.double().repeat_interleave(32 // grid.shape[1], 1)
    assert torch.equal(checkout(repo, "q", dequantize=True)[W], expected.float())


def test_exponents_of_two_as_scales(repo, tmp_path, sign):
    packed = weight(4, 64).to(torch.float8_e4m3fn)
    exponents = torch.tensor([[120, 127], [130, 0], [254, 128], [255, 127]], dtype=torch.uint8)
    state = {W: packed, f"{W}_scale_inv": exponents}
    method = {"quant_method": "mxfp8", "weight_block_size": [1, 32]}
    stored(repo, tmp_path / "q", sign, state, dtype="float32", quantization_config=method)
    powers = torch.exp2(exponents.double() - 127)
    powers[exponents == 255] = torch.nan
    expected = (packed.double() * powers.repeat_interleave(32, 1)).float()
    found = checkout(repo, "q", dequantize=True)[W]
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


def test_several_matrices_in_one_tensor(repo, tmp_path, sign):
    parts = [block_scaled(weight(40, 24) + i, 16, 16) for i in range(3)]
    state = {
        "experts.gate_up_proj": torch.stack([p for p, _ in parts]),
        "experts.gate_up_proj_scale_inv": torch.stack([s for _, s in parts]),
    }
    stored(repo, tmp_path / "q", sign, state, dtype="float32", quantization_config=how(16, 16))
    found = checkout(repo, "q", dequantize=True)["experts.gate_up_proj"]
    assert torch.equal(found, torch.stack([unscaled(p, s, 16, 16).float() for p, s in parts]))


def test_any_range_of_elements(repo, tmp_path, sign):
    packed, scales = block_scaled(weight(40, 24), 16, 16)
    stored(repo, tmp_path / "q", sign, {W: packed, f"{W}_scale_inv": scales}, quantization_config=how(16, 16))
    view, _ = dequantise(repo.objects, view_of(repo.manifest(repo.resolve("q"))), "q")
    whole = unscaled(packed, scales, 16, 16).numpy().reshape(-1)
    for first, last in ((0, 960), (1, 2), (23, 25), (24, 48), (100, 777), (959, 960)):
        out = np.empty(last - first, np.float64)
        view.tensors[W].computed.read_into(first * 8, out.data.cast("B"), "F64")
        np.testing.assert_array_equal(out, whole[first:last])


def test_files_speak_of_the_quantisation_no_more(repo, tmp_path, sign):
    packed, scales = block_scaled(weight(16, 16), 16, 16)
    folder = tmp_path / "q"
    folder.mkdir()
    names = {W: "model-1.safetensors", f"{W}_scale_inv": "model-2.safetensors", "n": "model-2.safetensors"}
    save_file({W: packed}, folder / "model-1.safetensors")
    save_file({f"{W}_scale_inv": scales, "n": torch.ones(2)}, folder / "model-2.safetensors")
    index = {"metadata": {"total_size": 268}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    nested = {"dtype": "bfloat16", "quantization_config": how(16, 16)}
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "text_config": nested}))
    (folder / "hf_quant_config.json").write_text("{}")
    import_base(repo, str(folder), draft=Draft("q", signature=sign()))
    done = checkout_files(repo, "q", tmp_path / "out", dequantize=True)
    assert (done.commit, done.dequantised) == (None, {"q": "block-scaled fp8"})
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config == {"model_type": "x", "text_config": {"dtype": "bfloat16"}}
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 16 * 16 * 2 + 8},
        "weight_map": {W: "model-1.safetensors", "n": "model-2.safetensors"},
    }
    assert load_file(tmp_path / "out/model-2.safetensors").keys() == {"n"}
    assert not (tmp_path / "out/hf_quant_config.json").exists()


def test_other_schemes_are_refused_by_name(repo, tmp_path, sign):
    state = {"q.qweight": torch.zeros(1, 8, dtype=torch.int32), "q.scales": torch.ones(1, 8)}
    stored(repo, tmp_path / "q", sign, state, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(InvalidInputError, match="GPTQ, 4 bits") as caught:
        checkout(repo, "q", dequantize=True)
    assert caught.value.kind is ErrorKind.QUANTISED


def test_plain_weights_stay_as_they_are(repo, tmp_path, sign):
    stored(repo, tmp_path / "q", sign, {W: weight(8, 8)})
    view = view_of(repo.manifest(repo.resolve("q")))
    assert dequantise(repo.objects, view, "q") == (view, ())

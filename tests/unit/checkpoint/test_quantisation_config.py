"""What the files beside a checkpoint say of its quantisation."""

from __future__ import annotations

import json

import pytest

from deltavcs.checkpoint.quantisation_config import read_declared


def declared(folder: str = "", **files: object):
    table = {k.replace("__", "."): json.dumps(v).encode() for k, v in files.items()}
    return read_declared({folder + k: v for k, v in table.items()}.get, folder)


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
BLOCKS = {"config_groups": {"g": {"weights": {"num_bits": 8, "block_structure": [64, 128]}}}}


@pytest.mark.parametrize(
    ("files", "scheme", "loadable"),
    [
        ({"config__json": {"quantization_config": GPTQ}}, "GPTQ, 4 bits", True),
        ({"config__json": {"text_config": {"quantization_config": GPTQ}}}, "GPTQ, 4 bits", True),
        (
            {"quantize_config__json": {"bits": 4, "group_size": 128, "desc_act": False}},
            "a scheme that it does not name, 4 bits", False,
        ),
        ({"quant_config__json": {"w_bit": 4, "quant_method": "awq"}}, "AWQ, 4 bits", False),
        (
            {"hf_quant_config__json": {"producer": {}, "quantization": {"quant_algo": "FP8"}}},
            "fp8 with scales", False,
        ),
        ({"config__json": {"quantization_config": {"load_in_8bit": True}}}, "bitsandbytes, 8 bits", False),
        (
            {"config__json": {"quantization_config": NF4}},
            "bitsandbytes nf4, 4 bits", True,
        ),
        (
            {"config__json": {"compression_config": PACKED}},
            "compressed-tensors, pack-quantized", True,
        ),
        (
            {"config__json": {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}},
            "ModelOpt FP8", True,
        ),
        ({"config__json": {"quantization": {"group_size": 64, "bits": 4}}}, "MLX, 4 bits", False),
        (
            {"config__json": {"quantization_config": {"quant_method": "new\u001b[31m" + "x" * 99}}},
            "new[31m" + "x" * 33, True,
        ),
        ({"config__json": {"quantization_config": None}}, "", False),
        ({"config__json": [1]}, "", False),
        ({}, "", False),
    ],
)  # fmt: skip
def test_schemes(files, scheme, loadable):
    found = declared(**files)
    assert (found.scheme, found.loadable) == (scheme, loadable)


def test_a_file_that_is_no_json_says_nothing():
    assert read_declared({"config.json": b"{"}.get, "").scheme == ""


def test_a_folder_has_its_own_files():
    assert declared("vae/", config__json={"quantization_config": GPTQ}).scheme == "GPTQ, 4 bits"


def groups(*weights: dict[str, object]) -> dict[str, object]:
    """As compressed-tensors describes weights that are not all quantised alike."""
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {f"group_{i}": {"weights": w} for i, w in enumerate(weights)},
    }


@pytest.mark.parametrize("key", ["transform_config", "rotation_config"])
def test_rotations_that_the_model_undoes_are_in_the_way_of_its_weights(key):
    section = {"quant_method": "compressed-tensors", key: {"config_groups": {"R1": {"type": "hadamard"}}}}
    assert key in declared(config__json={"quantization_config": section}).obstacle
    assert not declared(config__json={"quantization_config": {**section, key: {}}}).obstacle


@pytest.mark.parametrize(
    ("section", "block"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 64]}, (128, 64)),
        ({"quant_method": "fp8", "weight_block_size": [128]}, None),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, None),
        ({"quant_method": "compressed-tensors", **BLOCKS}, (64, 128)),
        ({"quant_method": "fp8"}, None),
        (groups({"strategy": "block", "block_structure": "64x32"}), (64, 32)),
        (groups({"strategy": "group", "group_size": 20}), (1, 20)),
        (groups({"strategy": "block", "block_structure": [20, 20]}, {"strategy": "channel"}), (20, 20)),
        (groups({"block_structure": [20, 20]}, {"block_structure": [24, 24]}), None),
    ],
)
def test_blocks(section, block):
    assert declared(config__json={"quantization_config": section}).block == block


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"torch_dtype": "float16"}, "F16"),
        ({"dtype": "torch.float32"}, "F32"),
        ({"text_config": {"dtype": "float16"}}, "F16"),
        ({"dtype": "float8_e4m3fn"}, "BF16"),
        ({}, "BF16"),
    ],
)
def test_the_dtype_that_it_computes_in(config, dtype):
    assert declared(config__json=config).dtype == dtype

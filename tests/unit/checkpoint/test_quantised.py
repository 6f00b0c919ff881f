"""What is recognised as quantised, by configuration and by tensors alone, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import (
    Purpose,
    check_arithmetic,
    describe,
    quantisations_of,
    quantised_error,
    recognise,
)
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry
from deltavcs.oid import BlobId

Q, W = "model.layers.0.q_proj", "model.layers.0.q_proj.weight"
NORM = {"model.norm.weight": ("BF16", (8,)), "model.embed_tokens.weight": ("BF16", (32, 8))}

# The tensors of one layer as each library stores it, and how that is called.
SCHEMES: dict[str, tuple[dict[str, tuple[str, tuple[int, ...]]], str]] = {
    "GPTQ": (
        {
            f"{Q}.qweight": ("I32", (1, 8)), f"{Q}.qzeros": ("I32", (1, 1)), f"{Q}.scales": ("F16", (1, 8)),
            f"{Q}.g_idx": ("I32", (8,)),
        },
        "packed integers, as GPTQ and AWQ store them",
    ),
    "nf4": (
        {
            W: ("U8", (32, 1)), f"{W}.absmax": ("F32", (1,)), f"{W}.quant_map": ("F32", (16,)),
            f"{W}.quant_state.bitsandbytes__nf4": ("U8", (85,)),
        },
        "bitsandbytes nf4, 4 bits",
    ),
    "nf4 stored as bf16": ({W: ("BF16", (16, 1)), f"{W}.absmax": ("U8", (1,))}, "bitsandbytes, 4 bits"),
    "llm.int8": (
        {W: ("I8", (8, 8)), f"{Q}.SCB": ("F32", (8,)), f"{Q}.weight_format": ("U8", ())},
        "bitsandbytes, 8 bits",
    ),
    "DeepSeek": ({W: ("F8_E4M3", (8, 8)), f"{W}_scale_inv": ("F32", (1, 1))}, "block-scaled fp8"),
    "experts": (
        {"e.gate_up_proj": ("F8_E4M3", (2, 8, 8)), "e.gate_up_proj_scale_inv": ("F32", (2, 1, 1))},
        "block-scaled fp8",
    ),
    "ModelOpt fp8": (
        {W: ("F8_E4M3", (8, 8)), f"{W}_scale": ("F32", ()), f"{Q}.input_scale": ("F32", ())},
        "fp8 with scales",
    ),
    "ComfyUI": (
        {W: ("F8_E4M3", (8, 8)), f"{Q}.scale_weight": ("F32", (1,)), "scaled_fp8": ("F8_E4M3", (2,))},
        "fp8 with scales",
    ),
    "NVFP4": (
        {W: ("U8", (8, 4)), f"{W}_scale": ("F8_E4M3", (8, 1)), f"{W}_scale_2": ("F32", ())}, "NVFP4",
    ),
    "compressed-tensors": (
        {
            f"{Q}.weight_packed": ("I32", (8, 1)), f"{Q}.weight_scale": ("BF16", (8, 1)),
            f"{Q}.weight_shape": ("I64", (2,)),
        },
        "compressed-tensors, packed",
    ),
    "MXFP4": ({"e.down_blocks": ("U8", (2, 8, 1, 16)), "e.down_scales": ("U8", (2, 8, 1))}, "MXFP4"),
    "HQQ": ({f"{Q}.W_q": ("U8", (4, 8)), f"{Q}.scale": ("F16", (8, 1)), f"{Q}.zero": ("F16", (8, 1))}, "HQQ"),
    "AQLM": ({f"{Q}.codes": ("I8", (1, 1, 1)), f"{Q}.codebooks": ("F16", (1, 256, 1, 8))}, "AQLM"),
    "EETQ": ({W: ("I8", (8, 8)), f"{Q}.weight_scales": ("F16", (8,))}, "I8 integers with scales"),
    "Quanto": ({f"{W}._data": ("I8", (8, 8)), f"{W}._scale": ("F32", (8, 1))}, "Quanto"),
    "TorchAO": ({f"{W}:qdata": ("I8", (8, 8)), f"{W}:scale": ("F32", (8, 1))}, "TorchAO"),
    "MLX": (
        {W: ("U32", (8, 1)), f"{Q}.scales": ("F16", (8, 1)), f"{Q}.biases": ("F16", (8, 1))},
        "MLX, packed integers",
    ),
    "BitNet": ({W: ("U8", (2, 8)), f"{W}_scale": ("BF16", (1,))}, "U8 integers with scales"),
    "TorchAO, of its own files": (
        {f"{Q}._weight_qdata": ("I8", (8, 8)), f"{Q}._weight_scale": ("F32", (8,))}, "TorchAO",
    ),
    "no companion": ({W: ("I8", (8, 8))}, "I8 integers"),
}  # fmt: skip

# Only what tells them: the rest of what they store is of no use without.
BY_PAYLOAD: dict[str, tuple[dict[str, tuple[str, tuple[int, ...]]], str]] = {
    "EXL3": ({f"{Q}.trellis": ("I16", (1, 1, 48)), f"{Q}.suh": ("F16", (8,))}, "EXL3"),
    "SpQR": (
        {f"{Q}.dense_weights": ("I64", (64,)), f"{Q}.row_offsets": ("I32", (9,))}, "SpQR",
    ),
    "sparse": (
        {f"{Q}.compressed": ("F16", (8, 4)), f"{Q}.bitmask": ("U8", (8, 1))}, "compressed-tensors, sparse",
    ),
    "floats that are not computed with": ({f"{Q}.weight": ("F8_E4M3FNUZ", (8, 8))}, "F8_E4M3FNUZ numbers"),
    "four bits": ({f"{Q}.w": ("F4", (64, 8))}, "F4 numbers"),
    "names of nobody": ({f"{Q}.B": ("I32", (8, 32)), f"{Q}.s": ("F16", (8,))}, "I32 integers"),
}  # fmt: skip

PLAIN: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    "buffers": {
        "embeddings.position_ids": ("I64", (1, 512)), "bn.num_batches_tracked": ("I64", ()),
        "attn.bias": ("BOOL", (1, 1, 8, 8)), "attn.relative_position_index": ("I64", (49, 49)),
        "logit_scale": ("F32", ()), "layer_scale.scale": ("F32", (8,)),
    },
    "masks of bytes": {"h.0.attn.bias": ("U8", (1, 1, 64, 64)), "h.0.attn.masked_bias": ("F32", ())},
    "converted to fp8": {W: ("F8_E4M3", (8, 8)), "model.q_norm.weight": ("F8_E4M3", (8,))},
    "converted to fp8, norms called scale": {
        "q_norm.scale": ("F8_E4M3", (8,)), "q_norm.weight": ("F8_E4M3", (8,)), W: ("F8_E5M2", (8, 8)),
    },
}  # fmt: skip


def entries(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorEntry]:
    return {k: TensorEntry(BlobId("0" * 64), *v) for k, v in (NORM | tensors).items()}


def reading(**files: Any):
    table = {k.replace("__", "."): json.dumps(v).encode() for k, v in files.items()}
    return table.get


@pytest.mark.parametrize("name", SCHEMES)
def test_tensors_alone_tell(name):
    tensors, scheme = SCHEMES[name]
    (found,) = recognise(entries(tensors), reading())
    assert found.scheme == scheme
    assert found.tensors == tensors.keys()


@pytest.mark.parametrize("name", BY_PAYLOAD)
def test_stored_numbers_alone_tell(name):
    tensors, scheme = BY_PAYLOAD[name]
    (found,) = recognise(entries({**tensors, "model.norm.weight": ("BF16", (8,))}), reading())
    assert (found.scheme, bool(found.obstacle)) == (scheme, True)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_quantisation(name):
    assert recognise(entries(PLAIN[name]), reading(config__json={"dtype": "bfloat16"})) == ()


def test_plain_weights_under_a_configuration_that_was_left_over_are_plain():
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    assert recognise(entries({W: ("BF16", (8, 8))}), reading(config__json=config)) == ()


def test_numbers_of_few_bits_under_unknown_names_are_quantised_if_the_configuration_says_so():
    tensors = entries({f"{Q}.mystery": ("U8", (8, 8))})
    config = {"quantization_config": {"quant_method": "novel", "bits": 3}}
    (found,) = recognise(tensors, reading(config__json=config))
    assert (found.scheme, found.tensors) == ("novel, 3 bits", {f"{Q}.mystery"})
    assert recognise(entries({f"{Q}.mystery": ("U8", (2, 8)), W: ("BF16", (32, 8))}), reading()) == ()


def test_floats_that_have_scales_are_quantised_if_the_configuration_says_so():
    tensors = entries({W: ("BF16", (8, 8)), f"{W}_scale": ("BF16", (8, 1)), **NORM})
    config = {"quantization_config": {"quant_method": "compressed-tensors", "format": "naive-quantized"}}
    (found,) = recognise(tensors, reading(config__json=config))
    assert found.tensors == {W, f"{W}_scale"}
    assert "is BF16" in found.obstacle
    assert recognise(tensors, reading()) == ()


def test_eight_bit_floats_without_a_scale_are_not_plain_where_others_have_one():
    bare = {"model.layers.1.q_proj.weight": ("F8_E4M3", (8, 8)), "model.norm.weight": ("F8_E4M3", (8,))}
    (found,) = recognise(entries({**SCHEMES["DeepSeek"][0], **bare}), reading())
    assert found.obstacle == "model.layers.1.q_proj.weight has no scale beside it"


def test_what_cannot_be_dequantised_says_why():
    error = quantised_error("chat", recognise(entries(SCHEMES["NVFP4"][0]), reading()), Purpose.DEQUANTISE)
    assert f"{W} is U8" in str(error)
    assert error.advice is Advice.USE_UNQUANTISED


def test_a_component_in_a_folder_is_named_with_it():
    tensors = {f"transformer/model.safetensors::{k}": v for k, v in SCHEMES["DeepSeek"][0].items()}
    (found,) = recognise(entries(tensors), reading())
    assert (found.folder, found.tensors) == ("transformer/", tensors.keys())
    assert describe((found,)) == "transformer/: block-scaled fp8"


def test_scales_of_a_cache_are_no_weights_either():
    tensors = {**SCHEMES["ModelOpt fp8"][0], "model.layers.0.self_attn.k_scale": ("F32", ())}
    (found,) = recognise(entries(tensors), reading())
    assert "model.layers.0.self_attn.k_scale" in found.companions
    assert found.obstacle == ""


def test_only_floats_with_one_scale_can_be_dequantised():
    (gptq,) = recognise(entries(SCHEMES["GPTQ"][0]), reading())
    (nvfp4,) = recognise(entries(SCHEMES["NVFP4"][0]), reading())
    (fp8,) = recognise(entries(SCHEMES["DeepSeek"][0]), reading())
    assert gptq.obstacle
    assert nvfp4.obstacle
    assert (fp8.obstacle, fp8.scaled.keys()) == ("", {W})


@pytest.mark.parametrize(
    ("scheme", "purpose", "advice"),
    [
        ("DeepSeek", Purpose.COMPUTE, Advice.DEQUANTIZE),
        ("DeepSeek", Purpose.RUN, Advice.CHECK_OUT_DEQUANTIZED),
        ("GPTQ", Purpose.COMPUTE, Advice.USE_UNQUANTISED),
        ("GPTQ", Purpose.RUN, Advice.USE_UNQUANTISED),
        ("GPTQ", Purpose.FOLD, Advice.FOLD_UNQUANTISED),
    ],
)
def test_what_helps_depends_on_the_scheme_and_the_purpose(scheme, purpose, advice):
    error = quantised_error("chat", recognise(entries(SCHEMES[scheme][0]), reading()), purpose)
    assert (error.kind, error.advice, error.facts) == (ErrorKind.QUANTISED, advice, {"revision": "chat"})
    assert str(error).startswith("chat is quantised (")


def test_stored_checkpoints(repo, tmp_path, sign):
    from deltavcs.porcelain.import_ import import_base
    from deltavcs.steps.recording import Draft
    from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint

    tensors = {k: raw_tensor(*v, seed=1) for k, v in SCHEMES["DeepSeek"][0].items()}
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    write_checkpoint(tmp_path / "q", tensors, files={"config.json": json.dumps(config).encode()})
    import_base(repo, str(tmp_path / "q"), draft=Draft(signature=sign()))
    manifest = repo.manifest(repo.resolve("q"))
    assert describe(quantisations_of(repo.objects, manifest)) == "block-scaled fp8"
    with pytest.raises(InvalidInputError, match=r"q is quantised \(block-scaled fp8\)"):
        check_arithmetic(repo.objects, manifest, "q")

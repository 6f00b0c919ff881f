"""LoRA in other layouts than PEFT's: told by its names, kept as it is, never taken for weights."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from deltavcs.adapters.foreign_loras import UNMERGED, foreign_lora
from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.objects.model import Kind
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.diff import diff
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.show import show
from deltavcs.steps.recording import Draft

_BLOCK = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([f"lora_unet_{_BLOCK}.lora_down.weight", f"lora_unet_{_BLOCK}.alpha"], "kohya LoRA"),
        (["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"], "kohya LoRA"),
        (["lora_transformer_single_transformer_blocks_0_attn_to_k.lora_down.weight"], "kohya LoRA"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "diffusers LoRA"),
        (["unet.down_blocks.0.attentions.0.processor.to_q_lora.down.weight"], "diffusers LoRA"),
        (["unet.mid_block.attentions.0.to_q.lora.up.weight"], "diffusers LoRA"),
        (["text_encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight"], "diffusers LoRA"),
        (["diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"], "ComfyUI LoRA"),
        ([f"lora_unet_{_BLOCK}.hada_w1_a", f"lora_unet_{_BLOCK}.hada_w1_b"], "LyCORIS adapter"),
        (["lycoris_blocks_0_attn_q.lokr_w1"], "LyCORIS adapter"),
        (
            ["model.layers.0.q_proj.base_layer.weight", "model.layers.0.q_proj.lora_A.default.weight"],
            UNMERGED,
        ),
        (["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"], None),
        (["decoder.block.1.snake.alpha", "encoder.flora_down.weight"], None),
        (["model.q.lora_extra.weight", "explorer_lora_norm.weight"], None),
        ([], None),
    ],
)
def test_names_tell_the_layout(keys, told) -> None:
    assert foreign_lora(keys) == told


def lora_file(path, seed: int):
    rng = np.random.default_rng(seed)
    name = f"lora_unet_{_BLOCK}"
    tensors = {
        f"{name}.lora_down.weight": rng.normal(size=(4, 8)).astype(np.float32),
        f"{name}.lora_up.weight": rng.normal(size=(8, 4)).astype(np.float32),
        f"{name}.alpha": np.array(4.0, np.float32),
    }
    save_file(tensors, path, metadata={"ss_network_dim": "4"})
    return path


@pytest.fixture
def history(repo, sign, tmp_path):
    (tmp_path / "base").mkdir()
    base = {"down_blocks.0.attentions.0.to_q.weight": np.ones((8, 8), np.float32)}
    save_file(base, tmp_path / "base" / "model.safetensors")
    import_base(repo, str(tmp_path / "base"), draft=Draft("base", signature=sign()))
    for seed, name in enumerate(("a", "b")):
        source = lora_file(tmp_path / f"{name}.safetensors", seed)
        commit(repo, str(source), base="base", draft=Draft(name, signature=sign()))
    return repo


def refused(call) -> DeltaVCSError:
    with pytest.raises(DeltaVCSError) as caught:
        call()
    return caught.value


def test_a_file_is_an_adapter_that_comes_back(history, tmp_path) -> None:
    value = history.commit(history.resolve("a"))
    assert value.kind is Kind.ADAPTER
    checkout_files(history, "a", tmp_path / "out")
    assert (tmp_path / "out" / "a.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    assert show(history, "a").modules == ()
    assert diff(history, "a", "b").adapter_kinds == ("kohya LoRA", "kohya LoRA")


def test_it_is_never_taken_for_weights(history, sign, tmp_path) -> None:
    for seed, name in enumerate(("x", "y")):
        source = lora_file(tmp_path / f"{name}.safetensors", seed)
        import_base(history, str(source), draft=Draft(name, signature=sign()))
    for call in (
        lambda: merge(history, ["a", "b"], draft=Draft("m", signature=sign())),
        lambda: merge(history, ["x", "y"], draft=Draft("m", signature=sign())),
        lambda: checkout_files(history, "0.5 * x + 0.5 * y", tmp_path / "sum"),
        lambda: checkout_files(history, "a", tmp_path / "folded", merge_adapter=True),
    ):
        error = refused(call)
        assert error.kind is ErrorKind.INCOMPATIBLE
        assert "kohya LoRA" in str(error)


def test_its_base_must_be_named(history, sign, tmp_path) -> None:
    source = lora_file(tmp_path / "c.safetensors", 3)
    error = refused(lambda: commit(history, str(source), draft=Draft(signature=sign())))
    assert error.kind is ErrorKind.BASE_UNKNOWN
    assert "kohya LoRA" in str(error)


def test_a_model_with_an_adapter_in_it_is_told_as_such(history, sign, tmp_path) -> None:
    tensors = {
        "down_blocks.0.attentions.0.to_q.base_layer.weight": np.ones((8, 8), np.float32),
        "down_blocks.0.attentions.0.to_q.lora_A.default.weight": np.ones((2, 8), np.float32),
        "down_blocks.0.attentions.0.to_q.lora_B.default.weight": np.ones((8, 2), np.float32),
    }
    for name in ("m", "n"):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        import_base(history, str(tmp_path / name), draft=Draft(name, signature=sign()))
    error = refused(lambda: merge(history, ["m", "n"], draft=Draft("mn", signature=sign())))
    assert UNMERGED in str(error)


def test_a_branch_goes_on_in_the_same_layout(repo, sign, tmp_path) -> None:
    """What it holds is an adapter, so the next one is no fine-tune that must not follow it."""
    rng = np.random.default_rng(3)
    (tmp_path / "base").mkdir()
    save_file({"unet.a.weight": _values(rng, 8, 8)}, tmp_path / "base/model.safetensors")
    import_base(repo, str(tmp_path / "base"), draft=Draft("base", signature=sign()))
    (tmp_path / "lora").mkdir()
    for name in ("style", "copy", "style"):
        if name == "style":
            factors = {"lora_unet_a.lora_down.weight": (2, 8), "lora_unet_a.lora_up.weight": (8, 2)}
            save_file(
                {k: _values(rng, *shape) for k, shape in factors.items()}, tmp_path / "lora/lora.safetensors"
            )
        made = commit(repo, str(tmp_path / "lora"), base="base", draft=Draft(name, signature=sign()))
        assert made.recorded.kind == Kind.ADAPTER
        assert made.copy_of == ("style" if name == "copy" else None)


def _values(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)

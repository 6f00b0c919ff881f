"""Quantised checkpoints through the verbs: computed with as their weights, or refused by scheme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantised_weights import quantise_folder, unscaled
from safetensors.torch import load_file
from tiny_llama import build_model

import deltavcs as dv
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.tensors.cast import from_float64

BLOCK = 32  # the 48 rows of an MLP are a block and a half


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Block-scaled fp8: `v1`, its fine-tunes `chat` and `code`, and `v2`; `v2-16bit` in bfloat16."""
    root = tmp_path_factory.mktemp("fp8")
    for i, name in enumerate(("v1", "chat", "code", "v2")):
        model = build_model(dtype=torch.bfloat16)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) * 0.02 * i)
        model.save_pretrained(root / name)
        if name == "v2":
            model.save_pretrained(root / "v2-16bit")
        quantise_folder(root / name, BLOCK, BLOCK)
    return root


@pytest.fixture
def repo(tmp_path: Path, folders: Path) -> dv.Repository:
    repo = dv.init(tmp_path / "repo", sync=False)
    for name in ("v1", "v2", "v2-16bit"):
        dv.import_base(repo, str(folders / name), draft=dv.Draft(name))
    for name in ("chat", "code"):
        dv.commit(repo, str(folders / name), base="v1", draft=dv.Draft(name))
    return repo


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint in float64."""
    state = load_file(folder / "model.safetensors")
    return {
        k: unscaled(v, state[f"{k}_scale_inv"], BLOCK, BLOCK) if f"{k}_scale_inv" in state else v.double()
        for k, v in state.items()
        if not k.endswith("_scale_inv")
    }


def assert_rounded_once(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Bit for bit the float64 values, rounded to bfloat16 without a stop at float32."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == torch.bfloat16
        bits = from_float64(expected[name].numpy(), "BF16").view(np.int16)
        np.testing.assert_array_equal(value.view(torch.int16).numpy().reshape(-1), bits, err_msg=name)


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(*args, **options)
    assert caught.value.kind is ErrorKind.QUANTISED
    return str(caught.value)


def test_every_byte_comes_back(repo: dv.Repository, folders: Path, tmp_path: Path) -> None:
    dv.checkout_files(repo, "chat", tmp_path / "out")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folders / "chat" / name).read_bytes()


def test_a_transfer(repo: dv.Repository, folders: Path, tmp_path: Path) -> None:
    assert "block-scaled fp8" in refused(dv.transfer, repo, "chat", "v2")
    (done,) = dv.transfer(repo, "chat", "v2", carrying=dv.Carrying(dequantize=True))
    assert set(done.dequantised) == {"v2", "chat", "v1"}
    dv.checkout_files(repo, "v2+chat", tmp_path / "out")
    m_t, tuned, m_s = (weights(folders / n) for n in ("v2", "chat", "v1"))
    expected = {k: m_t[k] + (tuned[k] - m_s[k]) for k in m_t}
    assert_rounded_once(load_file(tmp_path / "out/model.safetensors"), expected)
    assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())
    shown = dv.show(repo, "v2+chat")
    assert "v1: block-scaled fp8" in shown.metadata["transfer.dequantized"]
    assert dv.fsck(repo, full=True).problems == ()


def test_a_transfer_onto_plain_weights(repo: dv.Repository, folders: Path) -> None:
    assert "chat is quantised" in refused(dv.transfer, repo, "chat", "v2-16bit")
    dv.transfer(repo, "chat", "v2-16bit", carrying=dv.Carrying(dequantize=True))
    m_t, tuned, m_s = (weights(folders / n) for n in ("v2-16bit", "chat", "v1"))
    expected = {k: m_t[k] + (tuned[k] - m_s[k]) for k in m_t}
    assert_rounded_once(dv.checkout(repo, "v2-16bit+chat"), expected)


@pytest.mark.parametrize("method", ["average", "ties", "dare", "slerp", "task_arithmetic"])
def test_merges_are_those_of_the_dequantised_checkpoints(
    repo: dv.Repository, tmp_path: Path, method: str
) -> None:
    how = dv.MergeMethod(method)
    assert "chat is quantised" in refused(dv.merge, repo, ["chat", "code"], how, draft=dv.Draft("m"))
    dv.merge(repo, ["chat", "code"], how, draft=dv.Draft("m"), dequantize=True)
    # The same of checkpoints whose weights were written out in float64, which holds them exactly.
    exact = {"dequantize": True, "dtype": "float64"}
    dv.checkout_files(repo, "v1", tmp_path / "v1", **exact)
    dv.import_base(repo, str(tmp_path / "v1"), draft=dv.Draft("w1"))
    for name in ("chat", "code"):
        dv.checkout_files(repo, name, tmp_path / name, **exact)
        dv.commit(repo, str(tmp_path / name), base="w1", draft=dv.Draft(f"w-{name}"))
    dv.merge(repo, ["w-chat", "w-code"], how, draft=dv.Draft("w-m"))
    ours, theirs = dv.checkout(repo, "m"), dv.checkout(repo, "w-m", dtype="bfloat16")
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_expressions(repo: dv.Repository, folders: Path) -> None:
    text = "v2 + 0.5 * (chat - v1)"
    assert "v2 is quantised" in refused(dv.checkout, repo, text)
    m_t, tuned, m_s = (weights(folders / n) for n in ("v2", "chat", "v1"))
    expected = {k: m_t[k] + 0.5 * (tuned[k] - m_s[k]) for k in m_t}
    assert_rounded_once(dv.checkout(repo, text, dequantize=True), expected)


def test_conversions(repo: dv.Repository, folders: Path) -> None:
    assert "v1 is quantised" in refused(dv.checkout, repo, "v1", dtype="float32")
    found = dv.checkout(repo, "v1", dtype="float32", dequantize=True)
    for name, value in weights(folders / "v1").items():
        assert torch.equal(found[name], value.to(torch.float32)), name


def test_what_runs_models(repo: dv.Repository) -> None:
    rows = repo.path.parent / "rows.jsonl"
    rows.write_text('{"prompt": "a b", "answer": "c"}\n' * 4)
    dv.add_task(repo, "t", str(rows))
    running = dv.Running(samples=2)
    assert "v1 is quantised" in refused(dv.connectivity, repo, "v1", "chat", "t", running=running)
    how, draft = dv.MergeMethod("fisher"), dv.Draft("m")
    assert "chat is quantised" in refused(
        dv.merge, repo, ["chat", "code"], how, draft=draft, tasks=["t"], dequantize=True
    )
    asked = dv.rank(repo, "t", selection=dv.Selection(base="v1"), running=running)
    assert {one.name for one in asked.failed} == {"v1", "chat", "code", "v2"}  # `v2-16bit` is of another base
    for ranking in (asked, dv.rank_deltas(repo, "v2")):
        assert not ranking.ranked
        assert all("quantised" in one.why for one in ranking.failed)


def test_the_history_keeps_no_norm_of_packed_numbers(repo: dv.Repository) -> None:
    shown = {t.name: t for t in dv.show(repo, "chat").tensors}
    packed = shown["model.layers.0.mlp.up_proj.weight"]
    assert (packed.l2, packed.changed_share is not None) == (None, True)
    assert shown["model.layers.0.mlp.up_proj.weight_scale_inv"].l2 is None
    assert shown["model.norm.weight"].l2


def test_a_commit_of_packed_numbers_warns_of_no_nan(repo: dv.Repository, folders: Path) -> None:
    done = dv.commit(repo, str(folders / "code"), base="v1", draft=dv.Draft("again"))
    assert done.recorded.nonfinite == ()


def test_recycling_is_refused_before_anything_is_trained(repo: dv.Repository, tmp_path: Path) -> None:
    training = dv.Training("false {init} {out}", tmp_path / "work")
    assert "v1 is quantised" in refused(dv.recycle, repo, ["v1", "v2"], training, name="run")


def test_a_diff_has_no_norm_of_packed_numbers(repo: dv.Repository, folders: Path) -> None:
    found = dv.diff(repo, "v1", "chat")
    assert found.quantised == ("v1: block-scaled fp8", "chat: block-scaled fp8")
    moved = {t.name: t for t in found.tensors}
    packed = moved["model.layers.0.mlp.up_proj.weight"]
    assert (packed.l2, packed.cosine) == (None, None)
    assert packed.changed
    assert moved["model.embed_tokens.weight"].l2
    old, new = (weights(folders / n) for n in ("v1", "chat"))
    plain = [k for k in old if "proj" not in k]
    assert found.l2 == pytest.approx(sum(float(((new[k] - old[k]) ** 2).sum()) for k in plain) ** 0.5)
    whole = dv.diff(repo, "v1", "chat", dequantize=True)
    assert whole.quantised == ()
    assert whole.l2 == pytest.approx(sum(float(((new[k] - old[k]) ** 2).sum()) for k in old) ** 0.5, rel=1e-2)


def lora(model: Any, folder: Path) -> Any:
    """An adapter of two modules, trained as far as a test needs."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"])
    made = get_peft_model(model, config)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "lora_B" in name:
                p.normal_()
    made.save_pretrained(folder)
    return made


def test_an_adapter_on_a_quantised_base(repo: dv.Repository, folders: Path, tmp_path: Path) -> None:
    made = lora(build_model(), tmp_path / "lora")
    done = dv.commit(repo, str(tmp_path / "lora"), base="v1", draft=dv.Draft("lora"))
    assert done.quantised_base == "block-scaled fp8"
    dv.checkout_files(repo, "lora", tmp_path / "out")
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "lora" / name).read_bytes()
    assert "v1, the base of lora, is quantised" in refused(dv.checkout, repo, "lora", merge_adapter=True)
    # Onto the weights that the base stands for; PEFT folds into the same.
    base = weights(folders / "v1")
    made.base_model.model.load_state_dict(
        {k if ".q_proj." not in k and ".up_proj." not in k else k.replace(".weight", ".base_layer.weight"): v
         for k, v in base.items()}, strict=False,
    )  # fmt: skip
    expected = made.double().merge_and_unload().state_dict()
    found = dv.checkout(repo, "lora", merge_adapter=True, dequantize=True, dtype="float32")
    for key, value in found.items():
        assert torch.allclose(value.double(), expected[key].double(), rtol=0, atol=1e-6), key

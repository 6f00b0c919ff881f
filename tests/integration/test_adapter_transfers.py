"""LoRA adapters carried over to another base, against PEFT attaching them and merging them in there."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from peft_loras import attach, load_base, logits, save_base, save_lora, updates
from safetensors.numpy import load_file, save_file

import deltavcs as dv
from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.rank_deltas import rank_deltas
from deltavcs.porcelain.show import show
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.recording import Draft
from deltavcs.storage import LocalStorage
from deltavcs.testing.invariants import check_repository

SIGNED = Signature("tester", 1_700_000_000_000_000)
KINDS = {
    "plain": {},
    "patterned": {"use_rslora": True, "rank_pattern": {"v_proj": 3}, "alpha_pattern": {"q_proj": 5}},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "tokens": {"trainable_token_indices": [3, 7]},
    "dora": {"use_dora": True},
}
_ALL = {"target_modules": "all-linear"}
# Stacks of experts, which the checkpoint keeps matrix by matrix.
_EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
EVERY_LAYER = {"mixtral": {"target_modules": ["q_proj"], "target_parameters": _EXPERTS}}
EXTRA = ("head", "embedding", "tokens")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two versions of a base, adapters of the first, and a repository that holds all of them."""
    folder = tmp_path_factory.mktemp("loras")
    base = save_base(folder / "v1")
    save_base(folder / "v2", nudge=5)
    repo = init_repository(folder / "repo", sync=False)
    for name in ("v1", "v2"):
        import_base(repo, str(folder / name), draft=Draft(name, signature=SIGNED))
    for seed, (name, settings) in enumerate(KINDS.items()):
        save_lora(folder / name, base, seed=seed, **settings)
        commit(repo, str(folder / name), base="v1", draft=Draft(name, task="t", signature=SIGNED))
    return folder


@pytest.fixture
def repo(folder, tmp_path):
    shutil.copytree(folder / "repo", tmp_path / "copy")
    return Repository(LocalStorage(tmp_path / "copy" / ".dvx", sync=False))


def carried(repo, name, tmp_path, *, fold: bool = False, scale: float = 1.0):
    branch = "folded" if fold else "out"  # whole checkpoints and adapters mix on no branch
    (done,) = transfer(
        repo, name, "v2", scale=scale, carrying=Carrying(fold=fold), draft=Draft(branch, signature=SIGNED)
    )
    checkout_files(repo, branch, tmp_path / "out", force=True)
    return done, tmp_path / "out"


def weights_of(folder):
    return {k: v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("name", ["plain", "patterned"])
def test_the_same_factors_on_the_new_base(repo, folder, tmp_path, name) -> None:
    packs = set(repo.objects.packs.ids())
    done, out = carried(repo, name, tmp_path)
    here, there = (d / "adapter_model.safetensors" for d in (out, folder / name))
    assert here.read_bytes() == there.read_bytes()
    ours, theirs = attach(folder / "v2", a=out), attach(folder / "v2", a=folder / name)
    np.testing.assert_array_equal(logits(ours), logits(theirs))
    value = repo.commit(done.recorded.commit)
    v1, v2, delta = (repo.resolve(r) for r in ("v1", "v2", name))
    assert value.kind is Kind.ADAPTER
    assert {p.role: p.commit for p in value.parents} == {Role.BASE: v2, Role.DELTA: delta, Role.SOURCE: v1}
    assert (value.task, value.recipe) == ("t", f"{v2} + 1.0 * ({delta} - {v1})")
    factors = repo.manifest(done.recorded.commit).tensors.values()
    assert {repo.objects.packs.locate(t.blob).pack for t in factors} <= packs  # they are stored once
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder / "v2"
    )
    check_repository(repo.path.parent)


@pytest.mark.parametrize("name", ["plain", "patterned"])
def test_a_scale_scales_the_products_and_leaves_the_factors(repo, folder, tmp_path, name) -> None:
    _, out = carried(repo, name, tmp_path, scale=-0.3)
    here, there = (d / "adapter_model.safetensors" for d in (out, folder / name))
    assert here.read_bytes() == there.read_bytes()
    model = attach(folder / "v2", ours=out, theirs=folder / name)
    before = updates(model, "theirs")
    for module, update in updates(model, "ours").items():
        np.testing.assert_allclose(update, -0.3 * before[module], rtol=1e-5, atol=1e-7)


def test_what_is_kept_whole_keeps_its_change_and_not_the_old_base(repo, folder, tmp_path) -> None:
    old, new = weights_of(folder / "v1"), weights_of(folder / "v2")
    key = "base_model.model.lm_head.weight"
    done, out = carried(repo, "head", tmp_path, scale=0.5)
    saved = load_file(folder / "head" / "adapter_model.safetensors")[key].astype(np.float64)
    wanted = new["lm_head.weight"] + 0.5 * (saved - old["lm_head.weight"])
    np.testing.assert_array_equal(
        load_file(out / "adapter_model.safetensors")[key], wanted.astype(np.float32)
    )
    assert "lm_head.weight" in done.compatibility.matched
    # PEFT saves embeddings beneath their factors: untrained copies of the old base.
    _, out = carried(repo, "embedding", tmp_path)
    found = load_file(out / "adapter_model.safetensors")
    for name in ("model.embed_tokens", "lm_head"):
        np.testing.assert_array_equal(
            found[f"base_model.model.{name}.base_layer.weight"], new[f"{name}.weight"]
        )
    _, out = carried(repo, "tokens", tmp_path)
    key = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    saved = load_file(folder / "tokens" / "adapter_model.safetensors")[key].astype(np.float64)
    name = "model.embed_tokens.weight"
    wanted = new[name][[3, 7]] + (saved - old[name][[3, 7]])
    np.testing.assert_allclose(load_file(out / "adapter_model.safetensors")[key], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "patterned", *EXTRA])
def test_folding_is_what_peft_merges_on_the_new_base(repo, folder, tmp_path, name) -> None:
    _, adapter = carried(repo, name, tmp_path)
    merged = attach(folder / "v2", a=adapter).merge_and_unload()
    done, out = carried(repo, name, tmp_path / "folded", fold=True)
    assert repo.commit(done.recorded.commit).kind is Kind.TRANSFER
    model = load_base(out)
    theirs = {k: v.double().numpy() for k, v in merged.state_dict().items()}
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(value.double().numpy(), theirs[key], rtol=0, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(logits(model), logits(merged), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["plain", "patterned"])
def test_folding_at_once_and_later_give_the_same_bytes(repo, folder, tmp_path, name) -> None:
    carried(repo, name, tmp_path)
    checkout_files(repo, "out", tmp_path / "later", merge_adapter=True)
    _, out = carried(repo, name, tmp_path / "folded", fold=True)
    later, once = (d / "model.safetensors" for d in (tmp_path / "later", out))
    assert later.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("name", list(KINDS))
def test_a_folded_one_is_the_diff_vector_of_the_merged_fine_tune(repo, folder, tmp_path, name) -> None:
    done, out = carried(repo, name, tmp_path, fold=True, scale=0.7)
    merged = attach(folder / "v1", a=folder / name).double().merge_and_unload()
    theirs = {k: v.double().numpy() for k, v in merged.state_dict().items()}
    old, new, found = weights_of(folder / "v1"), weights_of(folder / "v2"), weights_of(out)
    for key, value in found.items():
        wanted = new[key] + 0.7 * (theirs[key] - old[key])
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-6, err_msg=key)
    changes = np.concatenate([(theirs[k] - old[k]).ravel() for k in old])
    steps = np.concatenate([(new[k] - old[k]).ravel() for k in old])
    told = done.geometry["all"]
    assert told.drift == pytest.approx(np.linalg.norm(steps), rel=1e-6)
    assert told.delta == pytest.approx(np.linalg.norm(changes), rel=1e-5)
    assert told.dot == pytest.approx(changes @ steps, rel=1e-4, abs=1e-5)


def refused(call) -> DeltaVCSError:
    with pytest.raises(DeltaVCSError) as caught:
        call()
    return caught.value


def test_dora_is_carried_over_only_as_a_change_of_weights(repo, folder, tmp_path) -> None:
    error = refused(lambda: carried(repo, "dora", tmp_path))
    assert "norms of its own base's weights" in str(error)


def test_a_base_s_adapters_are_among_what_it_carries_over(repo, folder) -> None:
    error = refused(lambda: transfer(repo, "v1", "v2", draft=Draft(signature=SIGNED)))
    assert error.kind is ErrorKind.AMBIGUOUS_DELTA
    assert all(name in str(error) for name in KINDS)
    (done,) = transfer(repo, "v1", "v2", deltas=["plain"], draft=Draft(signature=SIGNED))
    assert (done.name, done.adapter, done.folded) == ("v2+plain", True, False)
    (again,) = transfer(repo, "v2+plain", "v1", dry_run=True, draft=Draft(signature=SIGNED))
    assert (again.source, again.target) == ("v2", "v1")
    # A whole fine-tune is what a base is asked for.
    save_base(folder / "tuned", nudge=9)
    commit(repo, str(folder / "tuned"), base="v1", draft=Draft("tuned", signature=SIGNED))
    (one,) = transfer(repo, "v1", "v2", dry_run=True, draft=Draft(signature=SIGNED))
    assert (one.delta, one.adapter) == ("tuned", False)
    # What was carried over was not trained on v2.
    error = refused(lambda: transfer(repo, "v2", "v1", draft=Draft(signature=SIGNED)))
    assert error.kind is ErrorKind.UNKNOWN_REVISION


def test_the_ranking_of_diff_vectors_has_adapters(repo) -> None:
    ranking = rank_deltas(repo, "v2")
    (plan,) = transfer(repo, "plain", "v2", dry_run=True, draft=Draft(signature=SIGNED))
    found = {r.delta_name: r for r in ranking.ranked}
    assert found.keys() == KINDS.keys()
    assert found["plain"].cosine == pytest.approx(plan.geometry["all"].cosine)
    assert found["plain"].delta_norm == pytest.approx(plan.geometry["all"].delta)


def test_other_architectures_and_types_are_refused(repo, folder, tmp_path) -> None:
    save_base(tmp_path / "tied", tied=True)
    import_base(repo, str(tmp_path / "tied"), draft=Draft("tied", signature=SIGNED))
    other = folder / "v1" / "config.json"
    config = json.loads(other.read_text()) | {"hidden_size": 64, "num_hidden_layers": 1}
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(tmp_path / "wide")
    import_base(repo, str(tmp_path / "wide"), draft=Draft("wide", signature=SIGNED))
    error = refused(lambda: transfer(repo, "plain", "wide", draft=Draft(signature=SIGNED)))
    assert error.kind is ErrorKind.INCOMPATIBLE
    assert "q_proj" in str(error) or "v_proj" in str(error)
    error = refused(
        lambda: transfer(repo, "v1", "v2", carrying=dv.Carrying(vocab="no"), draft=Draft(signature=SIGNED))
    )
    assert error.kind is ErrorKind.BAD_ARGUMENT


@pytest.mark.parametrize("where", ["modules_to_save", "target_modules"])
def test_a_vocabulary_that_grew_on_both_sides(repo, folder, tmp_path, where) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    bases = {"more": 328, "fewer": 300, "same": 320}
    for name, rows in bases.items():
        model = load_base(folder / "v2")
        model.resize_token_embeddings(rows)
        model.save_pretrained(tmp_path / name)
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=SIGNED))
    model = load_base(folder / "v1")
    torch.manual_seed(1)
    model.resize_token_embeddings(322)
    chosen = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", where: ["embed_tokens"]}
    model = get_peft_model(model, LoraConfig(**chosen))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "grown", save_embedding_layers=True)
    commit(repo, str(tmp_path / "grown"), base="v1", draft=Draft("grown", signature=SIGNED))
    for name, rows in (("same", 322), ("more", 328)):
        (done,) = transfer(repo, "grown", name, draft=Draft(f"on-{name}", signature=SIGNED))
        checkout_files(repo, f"on-{name}", tmp_path / f"on-{name}")
        assert done.compatibility.padded
        base = load_base(tmp_path / name)
        base.resize_token_embeddings(rows)
        PeftModel.from_pretrained(base, tmp_path / f"on-{name}")
    strict = Carrying(vocab="strict")
    draft = Draft(signature=SIGNED)
    error = refused(lambda: transfer(repo, "grown", "more", carrying=strict, draft=draft))
    assert "vocabularies differ" in str(error)
    error = refused(lambda: transfer(repo, "grown", "fewer", draft=draft))
    assert "in the new one [300, 32]" in str(error)
    error = refused(lambda: transfer(repo, "grown", "more", carrying=Carrying(fold=True), draft=draft))
    assert "has other rows in the new base" in str(error)


@pytest.mark.parametrize("family", ["gpt2", "phi3", "jamba", "gemma3", "t5", "mixtral"])
def test_every_linear_layer_of_other_families(repo, tmp_path, family) -> None:
    import torch
    from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, nudged
    from peft import LoraConfig, PeftModel, get_peft_model

    make = {**ARCHITECTURES, **OTHER_ARCHITECTURES}[family]
    old, new = make(), nudged(make())
    old.save_pretrained(tmp_path / "old")
    new.save_pretrained(tmp_path / "new")
    model = get_peft_model(old, LoraConfig(r=2, lora_alpha=6, **EVERY_LAYER.get(family, _ALL)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "lora")
    for name in ("old", "new"):
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=SIGNED))
    commit(repo, str(tmp_path / "lora"), base="old", draft=Draft("lora", signature=SIGNED))
    (done,) = transfer(repo, "lora", "new", carrying=Carrying(fold=True), draft=Draft("f", signature=SIGNED))
    checkout_files(repo, "f", tmp_path / "f")
    theirs = PeftModel.from_pretrained(new, tmp_path / "lora").merge_and_unload().state_dict()
    ours = type(new).from_pretrained(tmp_path / "f").state_dict()
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key].numpy(), value.numpy(), rtol=0, atol=1e-6, err_msg=key)
    assert done.geometry["all"].delta == pytest.approx(show(repo, "lora").l2, rel=1e-6)


def test_a_quantised_base_is_told_by_its_configuration(repo, folder, tmp_path) -> None:
    """As GPTQ leaves a checkpoint: packed numbers for the linear layers, and a config that says so."""
    for name, bad in (("packed", {}), ("narrow", {"intermediate_size": 48, "num_key_value_heads": 4})):
        (tmp_path / name).mkdir()
        config = json.loads((folder / "v1" / "config.json").read_text())
        config |= {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}, **bad}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        tensors = {}
        for key, value in load_file(folder / "v2" / "model.safetensors").items():
            if key.endswith("_proj.weight"):
                module = key.removesuffix(".weight")
                tensors[f"{module}.qweight"] = np.zeros((value.shape[1] // 8, value.shape[0]), np.int32)
                tensors[f"{module}.qzeros"] = np.zeros((1, value.shape[0] // 8), np.int32)
                tensors[f"{module}.scales"] = np.ones((1, value.shape[0]), np.float16)
            else:
                tensors[key] = value
        save_file(tensors, tmp_path / name / "model.safetensors")
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=SIGNED))
    (done,) = transfer(repo, "plain", "packed", draft=Draft("moved", signature=SIGNED))
    assert done.geometry["all"].delta == pytest.approx(show(repo, "plain").l2)
    assert len(done.compatibility.matched) == 4
    for wrong in (
        lambda: transfer(repo, "plain", "narrow", dry_run=True, draft=Draft(signature=SIGNED)),
        lambda: transfer(repo, "head", "packed", dry_run=True, draft=Draft(signature=SIGNED)),
        lambda: transfer(
            repo, "plain", "packed", dry_run=True, carrying=Carrying(fold=True), draft=Draft(signature=SIGNED)
        ),
    ):
        assert refused(wrong).kind in (ErrorKind.INCOMPATIBLE, ErrorKind.QUANTISED)
    commit(repo, str(folder / "plain"), base="packed", draft=Draft("below", signature=SIGNED))
    (back,) = transfer(repo, "below", "v2", draft=Draft("back", signature=SIGNED))
    assert len(back.compatibility.matched) == 4

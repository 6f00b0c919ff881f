"""LoRA adapters merged, and what PEFT's `add_weighted_adapter` makes of them where both mean the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from peft_loras import attach, load_base, save_base, save_lora, updates
from safetensors.numpy import load_file, save_file

from deltavcs.advice import Advice
from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.storage import LocalStorage
from deltavcs.testing.invariants import check_repository

SIGNED = Signature("tester", 1_700_000_000_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base, adapters of it, and a repository that holds all of them under the names of their folders."""
    folder = tmp_path_factory.mktemp("loras")
    base = save_base(folder / "base")
    save_lora(folder / "a", base, seed=1)
    save_lora(folder / "b", base, seed=2)
    save_lora(folder / "zero", base, zero=True)
    save_lora(folder / "init", base, seed=3)
    save_lora(folder / "wide", base, seed=4, r=4, lora_alpha=3, target_modules=["q_proj", "up_proj"])
    save_lora(folder / "rs", base, seed=5, use_rslora=True, rank_pattern={"q_proj": 3})
    save_lora(folder / "head", base, seed=6, modules_to_save=["lm_head"])
    save_lora(folder / "dora", base, seed=7, use_dora=True)
    save_lora(folder / "dora2", base, seed=8, use_dora=True)
    repo = init_repository(folder / "repo", sync=False)
    import_base(repo, str(base), draft=Draft("base", signature=SIGNED))
    for name in ("a", "b", "zero", "init", "wide", "rs", "head", "dora", "dora2"):
        commit(repo, str(folder / name), base="base", draft=Draft(name, signature=SIGNED))
    return folder


@pytest.fixture
def repo(folder, tmp_path):
    shutil.copytree(folder / "repo", tmp_path / "copy")
    return Repository(LocalStorage(tmp_path / "copy" / ".dvx", sync=False))


def merged(repo, names, method: MergeMethod, tmp_path: Path, **options):
    done = merge(repo, names, method, draft=Draft("m", signature=SIGNED), **options)
    checkout_files(repo, "m", tmp_path / "m")
    return done, tmp_path / "m"


def against_peft(folder, out: Path, names, weights, **how) -> float:
    """How far our updates are from PEFT's, as a part of their norm: the worst module."""
    # In float64: PEFT decomposes in the dtype of the weights.
    model = attach(folder / "base", ours=out, **{n: folder / n for n in names}).double()
    model.add_weighted_adapter(list(names), list(weights), "theirs", **how)
    ours, theirs = updates(model, "ours"), updates(model, "theirs")
    assert ours.keys() == theirs.keys() and ours
    return max(float(np.linalg.norm(ours[k] - theirs[k]) / np.linalg.norm(theirs[k])) for k in ours)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "wide"), ("a", "rs", "wide")])
def test_task_arithmetic_of_products_is_what_peft_calls_cat(repo, folder, tmp_path, names) -> None:
    weights = [0.75, -0.5, 0.25][: len(names)]
    done, out = merged(repo, names, MergeMethod("task_arithmetic", {"weights": weights}), tmp_path)
    assert done.products and done.lost == {}
    assert against_peft(folder, out, names, weights, combination_type="cat") < 1e-6
    value = repo.commit(done.recorded.commit)
    assert (value.kind, value.parent_as(Role.BASE)) == (Kind.ADAPTER, repo.resolve("base"))
    assert value.metadata["merge.exact"] == "true"


def test_average_of_adapters_of_other_ranks_and_modules(repo, folder, tmp_path) -> None:
    _, out = merged(repo, ["a", "wide"], MergeMethod("average", exact=True), tmp_path)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 6
    assert "model.layers.1.mlp.up_proj" in config["target_modules"]
    assert not any(m.endswith("layers.0.self_attn.k_proj") for m in config["target_modules"])
    assert against_peft(folder, out, ["a", "wide"], [0.5, 0.5], combination_type="cat") < 1e-6
    check_repository(repo.path.parent)


@pytest.mark.parametrize(
    ("method", "options", "how"),
    [
        ("task_arithmetic", {"weights": [1.0, 0.5]}, {"combination_type": "svd"}),
        ("ties", {"density": 0.4}, {"combination_type": "ties_svd", "density": 0.4}),
        (
            "dare",
            {"density": 1.0, "weights": [1.0, 0.5]},
            {"combination_type": "dare_linear_svd", "density": 1},
        ),
        ("dare_ties", {"density": 1.0}, {"combination_type": "dare_ties_svd", "density": 1}),
    ],
)
def test_products_cut_to_a_rank_are_what_peft_decomposes(
    repo, folder, tmp_path, method, options, how
) -> None:
    done, out = merged(repo, ["a", "wide"], MergeMethod(method, options, rank=3), tmp_path)
    weights = options.get("weights", [1.0, 1.0])
    assert against_peft(folder, out, ["a", "wide"], weights, svd_rank=3, **how) < 1e-6
    assert 0 < max(done.lost.values()) < 1


def test_what_the_rank_loses_is_told(repo, folder, tmp_path) -> None:
    done, out = merged(repo, ["a", "b"], MergeMethod("ties", {"density": 0.5}, rank=2), tmp_path)
    whole = merged(repo, ["a", "b"], MergeMethod("ties", {"density": 0.5}, rank=32), tmp_path / "whole")
    assert whole[0].lost == {}
    model = attach(folder / "base", ours=out, whole=whole[1])
    for module, update in updates(model, "whole").items():
        lost = np.linalg.norm(updates(model, "ours")[module] - update) / np.linalg.norm(update)
        assert done.lost[module] == pytest.approx(lost, rel=1e-4)


def test_ties_on_factors_from_zero_is_what_peft_calls_ties(repo, folder, tmp_path) -> None:
    done, out = merged(repo, ["a", "b"], MergeMethod("ties", {"density": 0.5}, base="zero"), tmp_path)
    assert not done.products and done.recorded.stored_bytes < 10_000
    how = {"combination_type": "ties", "density": 0.5}
    assert against_peft(folder, out, ["a", "b"], [1.0, 1.0], **how) < 1e-6
    value = repo.commit(done.recorded.commit)
    assert value.parent_as(Role.INIT) == repo.resolve("zero")
    assert value.parent_as(Role.BASE) == repo.resolve("base")


def test_an_average_of_factors_is_what_peft_calls_linear_but_for_a_scale(repo, folder, tmp_path) -> None:
    # PEFT gives each factor the root of the weight, so its product has weight 1/k where ours has 1/k².
    _, out = merged(repo, ["a", "b"], MergeMethod(), tmp_path)
    assert against_peft(folder, out, ["a", "b"], [0.25, 0.25], combination_type="linear") < 1e-6


def test_diff_vectors_of_factors_start_from_the_initial_adapter(repo, folder, tmp_path) -> None:
    method = MergeMethod("task_arithmetic", {"scale": 0.5}, base="init")
    _, out = merged(repo, ["a", "b"], method, tmp_path)
    found = load_file(out / "adapter_model.safetensors")
    a, b, init = (load_file(folder / n / "adapter_model.safetensors") for n in ("a", "b", "init"))
    for key, values in found.items():
        start = init[key].astype(np.float64)
        wanted = start + 0.5 * ((a[key] - start) + (b[key] - start))
        np.testing.assert_array_equal(values, wanted.astype(np.float32))


def test_adapters_that_say_where_they_started_need_no_base(repo, folder, tmp_path) -> None:
    for name in ("a", "b"):
        parents = ["init:init"]
        commit(
            repo, str(folder / name), base="base", parents=parents, draft=Draft(f"{name}2", signature=SIGNED)
        )
    done, _ = merged(repo, ["a2", "b2"], MergeMethod("dare_ties", {"density": 0.5}), tmp_path)
    assert done.init == repo.resolve("init")
    named, _ = merged(
        repo, ["a", "b"], MergeMethod("dare_ties", {"density": 0.5}, base="init"), tmp_path / "named"
    )
    assert repo.commit(named.recorded.commit).manifest == repo.commit(done.recorded.commit).manifest
    assert merged(repo, ["a2", "b2"], MergeMethod("ties", exact=True), tmp_path / "p")[0].products


def test_a_head_that_one_of_them_trains_is_the_base_s_for_the_other(repo, folder, tmp_path) -> None:
    _, out = merged(repo, ["a", "head"], MergeMethod("task_arithmetic", {"scale": 0.5}), tmp_path)
    key = "base_model.model.lm_head.weight"
    saved = load_file(folder / "head" / "adapter_model.safetensors")[key].astype(np.float64)
    old = load_file(folder / "base" / "model.safetensors")["lm_head.weight"].astype(np.float64)
    found = load_file(out / "adapter_model.safetensors")[key]
    np.testing.assert_allclose(found, old + 0.5 * (saved - old), rtol=0, atol=1e-7)
    assert json.loads((out / "adapter_config.json").read_text())["modules_to_save"] == ["lm_head"]
    attach(folder / "base", ours=out)


def refused(call) -> DeltaVCSError:
    with pytest.raises(DeltaVCSError) as caught:
        call()
    return caught.value


def save_biased(folder: Path) -> Path:
    """The tiny Llama with biases beside the weights of its attention."""
    from transformers import LlamaForCausalLM

    config = load_base(save_base(folder)).config
    config.attention_bias = True
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def committed(repo, folder: Path, base: Path, **settings) -> dict[str, np.ndarray]:
    """Commit an adapter under the name of its folder; its tensors."""
    save_lora(folder, base, **settings)
    commit(repo, str(folder), base=base.name, draft=Draft(folder.name, signature=SIGNED))
    return load_file(folder / "adapter_model.safetensors")


def test_biases_beside_factors_are_scaled_as_those_are(repo, tmp_path) -> None:
    base = save_biased(tmp_path / "biased")
    import_base(repo, str(base), draft=Draft("biased", signature=SIGNED))
    one = committed(repo, tmp_path / "one", base, lora_bias=True, lora_alpha=6)
    two = committed(repo, tmp_path / "two", base, lora_bias=True, lora_alpha=1, seed=2)
    _, out = merged(repo, ["one", "two"], MergeMethod("average", exact=True), tmp_path)
    found = load_file(out / "adapter_model.safetensors")
    biases = [k for k in one if k.endswith("lora_B.bias")]
    assert biases
    for key in biases:  # α/r is 3 and ½, and 1 in the result
        np.testing.assert_allclose(found[key], 0.5 * (3 * one[key] + 0.5 * two[key]), rtol=0, atol=1e-6)
    error = refused(lambda: merged(repo, ["one", "two"], MergeMethod("ties", exact=True), tmp_path / "t"))
    assert "ties does not merge biases beside factors" in str(error)
    committed(repo, tmp_path / "none", base)
    error = refused(lambda: merged(repo, ["one", "none"], MergeMethod("average", exact=True), tmp_path / "n"))
    assert "they trained other biases beside factors (lora_bias)" in str(error)


def test_rows_of_other_tokens_are_not_averaged(repo, folder, tmp_path) -> None:
    tokens = [[3, 5], [5, 9], [3, 5]]
    for name, rows in zip(("t1", "t2", "t3"), tokens, strict=True):
        committed(repo, tmp_path / name, folder / "base", trainable_token_indices=rows)
    how = MergeMethod("average", exact=True)
    for other in ("t2", "a"):
        error = refused(lambda other=other: merged(repo, ["t1", other], how, tmp_path / other))
        assert "they trained other tokens (trainable_token_indices)" in str(error)
    merged(repo, ["t1", "t3"], how, tmp_path)


def test_a_weight_that_one_holds_whole_and_another_adapts_is_refused(repo, folder, tmp_path) -> None:
    committed(repo, tmp_path / "adapted", folder / "base", target_modules=["q_proj", "lm_head"])
    for names in (["head", "adapted"], ["adapted", "head"]):
        error = refused(lambda names=names: merged(repo, names, MergeMethod("average", exact=True), tmp_path))
        assert "head holds lm_head whole, and adapted has factors for it" in str(error)


def test_what_is_no_product_is_refused(repo, folder, tmp_path) -> None:
    error = refused(lambda: merged(repo, ["dora", "dora2"], MergeMethod("ties"), tmp_path))
    assert "dora cannot be merged through its products: DoRA" in str(error)
    error = refused(lambda: merged(repo, ["a", "dora"], MergeMethod(), tmp_path))
    assert "dora has DoRA on instead of off" in str(error)
    assert error.advice is None
    error = refused(lambda: merged(repo, ["a", "b"], MergeMethod("fisher"), tmp_path))
    assert "fisher cannot merge adapters" in str(error)
    error = refused(lambda: merged(repo, ["a", "b"], MergeMethod("ties", exact=True, base="init"), tmp_path))
    assert error.kind is ErrorKind.BAD_ARGUMENT
    merged(repo, ["dora", "dora2"], MergeMethod(), tmp_path / "averaged")
    error = refused(lambda: merged(repo, ["a", "head"], MergeMethod(), tmp_path))
    assert "head has base_model.model.lm_head.weight" in str(error)
    assert error.advice is Advice.MERGE_PRODUCTS
    error = refused(lambda: merged(repo, ["a", "b"], MergeMethod("ties", base="init", rank=2), tmp_path))
    assert "a rank is for products" in str(error)


def test_updates_that_do_not_fit_into_memory_are_refused(repo, folder, tmp_path) -> None:
    from dataclasses import replace

    repo.resources = replace(repo.resources, memory_bytes=10_000)
    error = refused(lambda: merged(repo, ["a", "b"], MergeMethod("ties"), tmp_path))
    assert error.kind is ErrorKind.LIMIT_EXCEEDED
    assert "self_attn.q_proj" in str(error)


def test_other_types_are_refused_by_name_and_vectors_of_ia3_averaged(repo, folder, tmp_path) -> None:
    for kind, key in (("LOHA", "hada_w1_a"), ("IA3", "ia3_l")):
        for seed in (1, 2):
            path = tmp_path / f"{kind}{seed}"
            path.mkdir()
            values = np.random.default_rng(seed).normal(size=(16, 1)).astype(np.float32)
            name = f"base_model.model.model.layers.0.self_attn.v_proj.{key}"
            save_file({name: values}, path / "adapter_model.safetensors")
            config = {"peft_type": kind, "r": 2, "target_modules": ["v_proj"]}
            (path / "adapter_config.json").write_text(json.dumps(config))
            try:
                commit(repo, str(path), base="base", draft=Draft(f"{kind}{seed}", signature=SIGNED))
            except DeltaVCSError:
                pytest.skip(f"{kind} adapters cannot be stored yet")
    error = refused(lambda: merged(repo, ["LOHA1", "LOHA2"], MergeMethod(), tmp_path))
    assert "LOHA1 is an adapter of type LOHA" in str(error)
    _, out = merged(repo, ["IA31", "IA32"], MergeMethod(), tmp_path / "ia3")
    (found,) = load_file(out / "adapter_model.safetensors").values()
    parts = [
        next(iter(load_file(tmp_path / f"IA3{i}" / "adapter_model.safetensors").values())) for i in (1, 2)
    ]
    np.testing.assert_allclose(found, (parts[0] + parts[1]) / 2)

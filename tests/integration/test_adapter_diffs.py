"""`show` and `diff` of adapters: by what they do, not by the numbers that do it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from peft_loras import attach, save_base, save_lora, updates
from safetensors.numpy import load_file, save_file

from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.diff import diff
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.show import show
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft

SIGNED = Signature("tester", 1_700_000_000_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base and adapters of it, `mixed` with the factors of `a` mixed by a matrix."""
    folder = tmp_path_factory.mktemp("loras")
    base = save_base(folder / "base")
    save_lora(folder / "a", base, seed=1)
    save_lora(folder / "b", base, seed=2, target_modules=["q_proj", "embed_tokens"], r=3)
    save_lora(folder / "dora", base, seed=3, use_dora=True)
    found = load_file(folder / "a" / "adapter_model.safetensors")
    mix = np.array([[2.0, 1.0], [1.0, 1.0]], np.float32)
    for key in found:
        found[key] = mix @ found[key] if "lora_A" in key else found[key] @ np.linalg.inv(mix)
    (folder / "mixed").mkdir()
    save_file(found, folder / "mixed" / "adapter_model.safetensors")
    config = (folder / "a" / "adapter_config.json").read_text()
    (folder / "mixed" / "adapter_config.json").write_text(config)
    return folder


@pytest.fixture(scope="module")
def repo(folder):
    repo = init_repository(folder / "repo", sync=False)
    import_base(repo, str(folder / "base"), draft=Draft("base", signature=SIGNED))
    for name in ("a", "b", "mixed", "dora"):
        commit(repo, str(folder / name), base="base", draft=Draft(name, signature=SIGNED))
    return repo


def test_show_has_the_norm_of_every_product(repo, folder) -> None:
    shown = show(repo, "a")
    theirs = updates(attach(folder / "base", a=folder / "a").double(), "a")
    assert {m.module for m in shown.modules} == theirs.keys()
    for module in shown.modules:
        assert module.l2 == pytest.approx(np.linalg.norm(theirs[module.module]), rel=1e-6)
        assert (module.rank, module.scale, module.shape) == (2, 3.0, theirs[module.module].shape)
    assert shown.l2 == pytest.approx(np.sqrt(sum(np.linalg.norm(u) ** 2 for u in theirs.values())))
    assert show(repo, "base").modules == ()
    assert all(m.scaled for m in show(repo, "dora").modules)


def test_the_same_update_by_other_factors_is_no_difference(repo) -> None:
    found = diff(repo, "a", "mixed")
    assert found.tensors == ()
    assert found.relative_l2 == pytest.approx(0.0, abs=1e-6)
    assert found.cosine == pytest.approx(1.0)
    assert len(found.modules) == 4


def test_a_difference_is_that_of_the_products(repo, folder) -> None:
    model = attach(folder / "base", a=folder / "a", b=folder / "b").double()
    ours, theirs = updates(model, "a"), updates(model, "b")
    weights = {
        k.removesuffix(".weight"): v for k, v in load_file(folder / "base" / "model.safetensors").items()
    }
    found = {m.module: m for m in diff(repo, "a", "b").modules}
    assert found.keys() == ours.keys() | theirs.keys()
    for name, module in found.items():
        nothing = np.zeros((1, 1))
        one, other = ours.get(name, nothing), theirs.get(name, nothing)
        assert module.l2_a == pytest.approx(np.linalg.norm(one))
        assert module.l2_b == pytest.approx(np.linalg.norm(other))
        assert module.l2 == pytest.approx(np.linalg.norm(other - one))
        assert module.weight_l2 == pytest.approx(np.linalg.norm(weights[name].astype(np.float64)))
    both = found["model.layers.0.self_attn.q_proj"]
    a, b = ours[both.module].ravel(), theirs[both.module].ravel()
    assert both.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-4)
    assert (both.rank_a, both.rank_b) == (2, 3)
    whole = diff(repo, "a", "b")
    assert whole.l2 == pytest.approx(np.sqrt(sum(m.l2**2 for m in found.values())))
    assert whole.only_in_b == ("base_model.model.model.embed_tokens.base_layer.weight",)


def test_adapters_that_are_the_same(repo) -> None:
    found = diff(repo, "a", "a")
    assert (found.n_common, found.n_identical, found.modules) == (4, 4, ())


def test_an_adapter_and_a_checkpoint_are_not_compared(repo) -> None:
    with pytest.raises(DeltaVCSError, match="share no tensor") as caught:
        diff(repo, "base", "a")
    assert caught.value.kind is ErrorKind.INCOMPATIBLE


def test_other_types_are_compared_by_tensor(repo, folder, tmp_path) -> None:
    for seed in (1, 2):
        path = tmp_path / f"ia3-{seed}"
        path.mkdir()
        values = np.random.default_rng(seed).normal(size=(16, 1)).astype(np.float32)
        name = "base_model.model.model.layers.0.self_attn.v_proj.ia3_l"
        save_file({name: values}, path / "adapter_model.safetensors")
        config = {"peft_type": "IA3", "target_modules": ["v_proj"]}
        (path / "adapter_config.json").write_text(json.dumps(config))
        commit(repo, str(path), base="base", draft=Draft(f"ia3-{seed}", signature=SIGNED))
    found = diff(repo, "ia3-1", "ia3-2")
    assert (found.adapter_kinds, found.modules, len(found.tensors)) == (("IA3", "IA3"), (), 1)
    assert show(repo, "ia3-1").modules == ()

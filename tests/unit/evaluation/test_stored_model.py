"""Only what differs is decoded; a parameter of several tensors is put together again if one differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES
from safetensors.torch import load_file, save_file

from deltavcs.checkpoint.view import view_of
from deltavcs.errors import InvalidInputError
from deltavcs.evaluation.models import build_model
from deltavcs.evaluation.stored_model import StoredModel
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft

EXPERT = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
HEAD = "lm_head.weight"


@pytest.fixture
def held(repo: Repository, tmp_path: Path, sign: Callable[[], Signature]) -> Any:
    """A Mixtral that is held, and how to store one with other tensors and load it."""
    ARCHITECTURES["mixtral"]().save_pretrained(tmp_path / "base")

    def store(name: str, **changed: torch.Tensor) -> Any:
        tensors = load_file(tmp_path / "base/model.safetensors") | changed
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_bytes((tmp_path / "base/config.json").read_bytes())
        save_file(tensors, tmp_path / name / "model.safetensors", {"format": "pt"})
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=sign()))
        return view_of(repo.manifest(repo.resolve(name))).primary

    base = store("base")
    frame = view_of(repo.manifest(repo.resolve("base")))
    model = build_model(repo.objects, frame, causal=True, resources=Resources(1))
    return StoredModel(repo.objects, model, Resources(1), loaded=base), store, tmp_path


def test_only_the_conversion_that_changed_is_decoded(held: Any) -> None:
    stored, store, root = held
    n_experts, n_parts = 4, 2  # gate and up of every expert are one parameter
    one = store("one", **{EXPERT: torch.ones(48, 32)})
    two = store("two", **{HEAD: torch.ones(64, 32)})
    assert stored.load(one) == n_experts * n_parts
    assert stored.load(one) == 0
    assert stored.load(two) == n_experts * n_parts + 1
    fresh = transformers.AutoModelForCausalLM.from_pretrained(root / "two").state_dict()
    assert all(torch.equal(t, fresh[name]) for name, t in stored.model.state_dict().items())


def test_after_a_failure_everything_is_loaded_again(held: Any) -> None:
    stored, store, _ = held
    base = store("base")
    bad = store("bad", **{HEAD: torch.ones(60, 32)})
    with pytest.raises(InvalidInputError, match=r"lm_head.weight has shape \[60, 32\]"):
        stored.load(bad)
    assert stored.load(base) == len(base)
    with pytest.raises(InvalidInputError, match=r"the checkpoint lacks lm_head\.weight"):
        stored.load({k: c for k, c in base.items() if k != HEAD})
    assert stored.load(base) == len(base)

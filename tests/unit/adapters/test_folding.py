"""Adapters as PEFT writes them, folded into their base."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import RawTensor, safetensors_bytes, write_checkpoint

_LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}


def numbers(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def raw(values: np.ndarray) -> RawTensor:
    return RawTensor("F32", values.shape, values.tobytes())


def write_adapter(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(_LORA))
    data = safetensors_bytes({f"base_model.model.{k}": raw(v) for k, v in tensors.items()})
    (folder / "adapter_model.safetensors").write_bytes(data)
    return folder


def test_factors_of_a_head_that_is_saved_whole_beneath_them(repo, tmp_path, sign):
    # PEFT saves embeddings and heads whole, as base_layer, if they are among its targets.
    write_checkpoint(tmp_path / "base", {"lm_head.weight": raw(numbers(6, 4, seed=1))})
    a, b, whole = numbers(2, 4, seed=2), numbers(6, 2, seed=3), numbers(6, 4, seed=4)
    parts = {"lm_head.lora_A.weight": a, "lm_head.lora_B.weight": b, "lm_head.base_layer.weight": whole}
    write_adapter(tmp_path / "lora", parts)
    import_base(repo, str(tmp_path / "base"), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "lora"), base="base", draft=Draft(signature=sign()))
    found = checkout(repo, "lora", merge_adapter=True)["lm_head.weight"].numpy()
    expected = whole.astype(np.float64) + 4 * (b.astype(np.float64) @ a.astype(np.float64))
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_an_adapter_that_resizes_the_vocabulary(repo, tmp_path, sign):
    # With modules_to_save PEFT writes the weight of the resized model beside the one it replaces.
    old, new = numbers(6, 4, seed=1), numbers(8, 4, seed=2)
    config = {"config.json": json.dumps({"vocab_size": 6}).encode()}
    weights = {"model.embed_tokens.weight": raw(old), "model.q.weight": raw(numbers(4, 4, seed=3))}
    write_checkpoint(tmp_path / "base", weights, files=config)
    parts = {
        "model.embed_tokens.modules_to_save.weight": new,
        "model.embed_tokens.original_module.weight": numbers(8, 4, seed=4),
        "model.q.lora_A.weight": numbers(2, 4, seed=5),
        "model.q.lora_B.weight": numbers(4, 2, seed=6),
    }
    write_adapter(tmp_path / "lora", parts)
    import_base(repo, str(tmp_path / "base"), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "lora"), base="base", draft=Draft(signature=sign()))
    checkout_files(repo, "lora", tmp_path / "out", merge_adapter=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 8
    found = checkout(repo, "lora", merge_adapter=True)["model.embed_tokens.weight"].numpy()
    np.testing.assert_array_equal(found, new)


def test_a_head_over_a_base_of_a_model_that_is_not_known(repo, tmp_path, sign):
    config = {"config.json": json.dumps({"vocab_size": 6}).encode()}
    write_checkpoint(tmp_path / "base", {"model.q.weight": raw(numbers(6, 4, seed=3))}, files=config)
    parts = {
        "model.q.lora_A.weight": numbers(2, 4, seed=5),
        "model.q.lora_B.weight": numbers(6, 2, seed=6),
        "score.weight": numbers(3, 6, seed=7),
    }
    write_adapter(tmp_path / "lora", parts)
    import_base(repo, str(tmp_path / "base"), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "lora"), base="base", draft=Draft(signature=sign()))
    with pytest.raises(
        InvalidInputError, match=r"score\.weight, which the base does not have, and it does not name"
    ):
        checkout(repo, "lora", merge_adapter=True)

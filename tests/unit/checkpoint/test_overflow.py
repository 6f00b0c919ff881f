"""Finite values that became Inf or NaN: counted, and told by tensor."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from deltavcs.merging.settings import MergeMethod
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft

BIG = "big.weight"


@pytest.fixture
def stored(repo, tmp_path, sign):
    """Imports tensors as a base, or commits them to one."""

    def store(name, base=None, **tensors):
        folder = tmp_path / name
        folder.mkdir()
        save_file({k.replace("_", "."): v for k, v in tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
        draft = Draft(name, signature=sign())
        return (
            import_base(repo, str(folder), draft=draft)
            if base is None
            else commit(repo, str(folder), base=base, draft=draft)
        )

    return store


def big(*values: float) -> torch.Tensor:
    out = torch.ones(8, 4, dtype=torch.bfloat16)
    out.view(-1)[: len(values)] = torch.tensor(values, dtype=torch.bfloat16)
    return out


@pytest.mark.parametrize(
    ("dtype", "count"),
    [("float16", 2), ("float32", 0), ("bfloat16", 0), ("float8_e4m3fn", 4), ("float8_e5m2", 2)],
)
def test_conversions(repo, tmp_path, stored, dtype, count):
    stored("b", big_weight=big(1e5, -1e6, 500.0, -480.0, float("inf"), float("nan")), other=big())
    done = checkout_files(repo, "b", tmp_path / "out", dtype=dtype)
    assert done.overflowed == ({BIG: count} if count else {})
    values = load_file(tmp_path / "out/model.safetensors")[BIG].float()
    assert int((~torch.isfinite(values)).sum()) == count + 2  # and those that were not finite before


def test_large_tensors_are_counted_span_by_span(repo, tmp_path, stored):
    values = torch.zeros(3 << 20, dtype=torch.bfloat16)
    values[:: 1 << 18] = 1e6
    stored("b", big_weight=values)
    done = checkout_files(repo, "b", tmp_path / "out", dtype="float16")
    assert done.overflowed == {BIG: 12}


def test_sums_on_the_way_out(repo, tmp_path, stored):
    stored("b", big_weight=big(3e38))
    stored("t", "b", big_weight=big(3e38, 2.0))
    assert checkout_files(repo, "b + t", tmp_path / "out").overflowed == {BIG: 1}


def test_a_transfer_that_leaves_the_range(repo, stored, sign):
    stored("v1", big_weight=big(1.0, 1.0))
    stored("v2", big_weight=big(60000.0, float("inf")).half())
    stored("chat", "v1", big_weight=big(9001.0, 3.0))
    (done,) = transfer(repo, "v1", "v2", draft=Draft(signature=sign()))
    assert done.recorded.overflowed == {BIG: 1}


def test_a_merge_of_diff_vectors_that_leaves_the_range(repo, stored, sign):
    stored("v1", big_weight=big(1.0).half())
    stored("chat", "v1", big_weight=big(2.0).half())
    method = MergeMethod("task_arithmetic", {"scale": 1e6}, base="v1")
    merged = merge(repo, ["chat"], method, draft=Draft("m", signature=sign()))
    assert merged.recorded.overflowed == {BIG: 1}


def test_a_merge_without_a_base_to_compare_with(repo, stored, sign):
    stored("a", big_weight=big(60000.0).half())
    stored("b", big_weight=big(1e5, 1e6))
    merged = merge(repo, ["a", "b"], draft=Draft("m", signature=sign()))
    assert merged.recorded.overflowed == {BIG: 2}


def test_what_is_dequantised(repo, tmp_path, sign):
    folder = tmp_path / "q"
    folder.mkdir()
    state = {BIG: torch.full((4, 4), 448.0).to(torch.float8_e4m3fn), "big.weight_scale": torch.tensor(200.0)}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"dtype": "float16"}))
    import_base(repo, str(folder), draft=Draft("q", signature=sign()))
    assert checkout_files(repo, "q", tmp_path / "out", dequantize=True).overflowed == {BIG: 16}


def test_folding(repo, tmp_path, stored, sign):
    stored("b", q_weight=big(65000.0).half())
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    factors = {"A": torch.full((1, 4), 30.0), "B": torch.full((8, 1), 30.0)}
    state = {f"base_model.model.q.lora_{side}.weight": value for side, value in factors.items()}
    save_file(state, folder / "adapter_model.safetensors")
    commit(repo, str(folder), base="b", draft=Draft("lora", signature=sign()))
    done = checkout_files(repo, "lora", tmp_path / "out", merge_adapter=True)
    assert done.overflowed == {"q.weight": 1}

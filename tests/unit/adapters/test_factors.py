"""Products of factors: for a matrix, either way round, and for a stack of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft_folds import lora

from deltavcs.adapters.factors import FactorCache, Factors, load_low_rank, parse_factor, product
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import RawTensor, write_checkpoint


def numbers(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def entries(repo: Any, folder: Path, sign: Any, **tensors: np.ndarray) -> dict[str, Any]:
    raw = {k: RawTensor("F32", v.shape, v.tobytes()) for k, v in tensors.items()}
    write_checkpoint(folder, raw)
    import_base(repo, str(folder), draft=Draft("x", signature=sign()))
    return repo.manifest(repo.resolve("x")).primary


def test_the_product_lies_as_the_weight_does(repo, tmp_path, sign):
    a, b = numbers(2, 4, seed=1), numbers(6, 2, seed=2)
    found = entries(repo, tmp_path / "x", sign, a=a, b=b)
    wanted = 3 * (b.astype(np.float64) @ a.astype(np.float64))
    plain = Factors(found["a"], found["b"], "m", 3.0)
    np.testing.assert_allclose(product(repo.objects, plain), wanted, rtol=1e-12)
    np.testing.assert_allclose(product(repo.objects, plain, slice(1, 3)), wanted[1:3], rtol=1e-12)
    turned = Factors(found["a"], found["b"], "m", 3.0, transposed=True)
    np.testing.assert_allclose(product(repo.objects, turned), wanted.T, rtol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_stack_of_experts_as_peft_multiplies_it(repo, tmp_path, sign, transposed):
    import torch
    from peft.tuners.lora.layer import ParamWrapper

    class Experts(torch.nn.Module):
        is_transposed = transposed

        def __init__(self) -> None:
            super().__init__()
            shape = (3, 4, 6) if transposed else (3, 6, 4)
            self.weights = torch.nn.Parameter(torch.zeros(shape))

    layer = ParamWrapper(Experts(), "default", "weights", lora(r=2), r=2, lora_alpha=6)
    a, b = numbers(6, 4, seed=1), numbers(6, 6, seed=2)
    layer.lora_A["default"].weight.data = torch.from_numpy(a)
    layer.lora_B["default"].weight.data = torch.from_numpy(b)
    wanted = layer.get_delta_weight("default").detach().numpy()
    found = entries(repo, tmp_path / "x", sign, a=a, b=b)
    whole = Factors(found["a"], found["b"], "m", 3.0, transposed=transposed, stacked=True, experts=3)
    np.testing.assert_allclose(product(repo.objects, whole).reshape(wanted.shape), wanted, rtol=1e-5)
    one = Factors(
        found["a"], found["b"], "m", 3.0, transposed=transposed, experts=3, expert=2, first=1, rows=2
    )
    np.testing.assert_allclose(product(repo.objects, one), wanted[2, 1:3], rtol=1e-5)


def test_what_is_kept_is_what_was_read(repo, tmp_path, sign):
    tensors = {name: numbers(4, 4, seed=i) for i, name in enumerate("abc")}
    found = entries(repo, tmp_path / "x", sign, **tensors)
    cache = FactorCache(repo.objects, keep=2)
    for name in "abcacb":
        np.testing.assert_array_equal(cache.read(found[name]), tensors[name])
    factors = Factors(found["a"], found["b"], "m", 1.0, experts=2, expert=1)
    plain, kept = (load_low_rank(repo.objects, factors, c).multiply(0, 4) for c in (None, cache))
    np.testing.assert_array_equal(plain, kept)


def test_names_of_factors():
    found = parse_factor("base_model.model.x.base_layer.lora_B.default.weight")
    assert found is not None
    assert (found.module, found.side, found.embedding) == ("x.base_layer", "B", False)
    assert parse_factor("base_model.model.x.lora_B.bias") is None

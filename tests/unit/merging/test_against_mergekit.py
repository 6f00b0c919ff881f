"""Conventions compared with mergekit (0.1.5 and later), where it is installed: `pip install mergekit`.

Where the two differ on purpose, the test says how: mergekit's DARE rescales to the L1 norm of the tensor
and draws from torch's generator; its `dare_ties` adds where ours, after the paper, averages.
"""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import merge

from deltavcs.operators.mask import keep_mask, mask_key

torch = pytest.importorskip("torch")
pytest.importorskip("mergekit")
api = pytest.importorskip("mergekit.merge_methods.base")
gta = pytest.importorskip("mergekit.merge_methods.generalized_task_arithmetic")
slerp = pytest.importorskip("mergekit.merge_methods.slerp")
pytestmark = pytest.mark.skipif(not hasattr(api, "TensorGroup"), reason="an older mergekit")

TIGHT = {"rtol": 1e-12, "atol": 1e-14}
WEIGHTS = [1.0, 0.6, 0.3]


def models(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((30, 20))
    return [base] + [base + 0.05 * rng.standard_normal((30, 20)) for _ in range(3)]


def ours(method: str, arrays: list[np.ndarray], **options: object) -> np.ndarray:
    return merge(method, arrays, block=1 << 18, **options)


def theirs(
    consensus: str | None, sparsify: str | None, arrays: list[np.ndarray], **options: object
) -> np.ndarray:
    merge = gta.GeneralizedTaskArithmeticMerge(
        consensus_method=gta.ConsensusMethod(consensus) if consensus else None,
        sparsification_method=gta.SparsificationMethod(sparsify) if sparsify else None,
        default_normalize=False,
        default_rescale=False,
        method_name="test",
        method_pretty_name=None,
        method_reference_url=None,
    )
    group = api.TensorGroup.from_tensors([torch.from_numpy(x) for x in arrays], base_index=0)
    per_model = {
        "weight": dict(enumerate(WEIGHTS, 1)),
        "density": dict.fromkeys((1, 2, 3), options["density"]),
    }
    shared = {
        "int8_mask": False,
        "rescale": False,
        "normalize": options["normalize"],
        "lambda": options["scale"],
    }
    return merge.merge_group(group, **per_model, **shared).numpy()


def test_task_arithmetic() -> None:
    xs = models()
    expected = theirs(None, None, xs, density=1.0, normalize=False, scale=0.7)
    np.testing.assert_allclose(ours("task_arithmetic", xs, weights=WEIGHTS, scale=0.7), expected, **TIGHT)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties(density: float) -> None:
    xs = models()
    expected = theirs("sum", "magnitude", xs, density=density, normalize=True, scale=0.7)
    got = ours("ties", xs, weights=WEIGHTS, density=density, scale=0.7)
    np.testing.assert_allclose(got, expected, **TIGHT)


@pytest.mark.parametrize("method", ["dare", "dare_ties"])
def test_dare_given_our_masks(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    xs, density = models(), 0.4
    streams = iter(range(3))

    def bernoulli(probability: object) -> object:
        mask = keep_mask(mask_key(5, "w", next(streams)), round(density * 2**32), 0, xs[0].size)
        return torch.from_numpy(mask.reshape(xs[0].shape).astype(np.float32))

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    # Their rescaling is off (it would match L1 norms): with equal densities, 1/density can go into λ.
    expected = theirs(
        None if method == "dare" else "sum",
        "random",
        [x.astype(np.float64) for x in xs],
        density=density,
        normalize=method == "dare_ties",
        scale=0.7 / density,
    )
    got = ours(method, xs, weights=WEIGHTS, density=density, scale=0.7, seed=5)
    # They mask in float32.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("near", [0.0, 1.0])
def test_slerp(t: float, near: float) -> None:
    a, b, *_ = models()
    if not near:
        b = np.random.default_rng(9).standard_normal(a.shape)
    expected = slerp.slerp(torch.tensor([t]), torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    np.testing.assert_allclose(ours("slerp", [a, b], t=t), expected.numpy(), rtol=1e-11, atol=1e-13)

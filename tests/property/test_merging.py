"""Laws that merging obeys whatever the weights: identities, permutations, independence of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from array_merges import ArraySource, merge_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.merging.formulas import PLANNERS
from deltavcs.merging.methods import MERGE_METHODS
from deltavcs.tensors.cast import from_float64, to_float64

DERIVED = list(PLANNERS)
DTYPES = ["F32", "F16", "BF16"]

seeds = st.integers(0, 2**32 - 1)


def stored_models(seed: int, count: int, n: int, dtype: str) -> list[np.ndarray]:
    """Models as a checkpoint holds them: every value representable in `dtype`, deltas with ties and zeros."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(n)
    models = [base] + [base + 0.02 * rng.standard_normal(n) * (rng.random(n) < 0.8) for _ in range(count - 1)]
    return [to_float64(from_float64(x, dtype), dtype) for x in models]


def merge(
    method: str, arrays: list[np.ndarray], dtype: str, block: int = 1 << 18, **options: object
) -> bytes:
    return merge_bytes(method, ArraySource("w", arrays, dtype), options, block)


def options_for(method: str) -> dict[str, object]:
    return {"weights": 0.7} if method == "weighted" else {}


def n_inputs(method: str, wanted: int) -> int:
    return 2 if method == "slerp" else wanted


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(DERIVED), st.sampled_from(DTYPES), st.integers(1, 300), st.integers(1, 97))
def test_bytes_do_not_depend_on_the_block_size(
    seed: int, method: str, dtype: str, n: int, block: int
) -> None:
    arrays = stored_models(seed, n_inputs(method, 4), n, dtype)
    options = options_for(method)
    assert merge(method, arrays, dtype, block, **options) == merge(method, arrays, dtype, **options)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["average", "weighted", "slerp"]), st.sampled_from(DTYPES), st.integers(1, 6))
def test_merging_a_model_with_itself_gives_the_model(seed: int, method: str, dtype: str, count: int) -> None:
    (model,) = stored_models(seed, 1, 60, dtype)
    arrays = [model] * n_inputs(method, count)
    assert merge(method, arrays, dtype, **options_for(method)) == from_float64(model, dtype).tobytes()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["task_arithmetic", "ties", "dare", "dare_ties"]), st.sampled_from(DTYPES))
def test_one_fine_tune_kept_whole_gives_the_fine_tune(seed: int, method: str, dtype: str) -> None:
    base, tuned = stored_models(seed, 2, 200, dtype)
    options = {} if method == "task_arithmetic" else {"density": 1.0}
    assert merge(method, [base, tuned], dtype, **options) == from_float64(tuned, dtype).tobytes()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["task_arithmetic", "ties", "dare", "dare_ties"]), st.sampled_from(DTYPES))
def test_without_fine_tuning_the_base_remains(seed: int, method: str, dtype: str) -> None:
    (base,) = stored_models(seed, 1, 100, dtype)
    assert merge(method, [base] * 4, dtype) == from_float64(base, dtype).tobytes()
    scaled = merge(method, stored_models(seed, 3, 100, dtype), dtype, scale=0.0)
    assert scaled == from_float64(base, dtype).tobytes()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["average", "weighted", "task_arithmetic", "ties"]), st.permutations(range(3)))
def test_the_order_of_models_matters_only_to_rounding(seed: int, method: str, order: list[int]) -> None:
    arrays = stored_models(seed, 4, 80, "F32")
    weights = [0.5, 1.0, 2.0]
    head, tail = ([arrays[0]], arrays[1:]) if MERGE_METHODS[method].needs_base else ([], arrays[1:])
    options = [{} if method == "average" else {"weights": w} for w in (weights, [weights[i] for i in order])]
    one = np.frombuffer(merge(method, [*head, *tail], "F64", **options[0]), "<f8")
    other = np.frombuffer(merge(method, [*head, *(tail[i] for i in order)], "F64", **options[1]), "<f8")
    # Where TIES' sum of signs cancels to rounding, order decides; such elements are kept out.
    same = np.isclose(one, other, rtol=1e-12, atol=1e-14)
    assert same.mean() > (0.95 if method == "ties" else 0.9999)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.01, 100.0), st.sampled_from(["weighted", "ties", "dare_ties"]))
def test_scaling_all_weights_changes_nothing_but_rounding(seed: int, factor: float, method: str) -> None:
    arrays = stored_models(seed, 3, 80, "F32")
    count = 3 if method == "weighted" else 2
    weights = [1.0, 0.5, 0.25][:count]
    one = np.frombuffer(merge(method, arrays, "F64", weights=weights), "<f8")
    other = np.frombuffer(merge(method, arrays, "F64", weights=[w * factor for w in weights]), "<f8")
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(DTYPES))
def test_density_one_makes_dare_task_arithmetic(seed: int, dtype: str) -> None:
    arrays = stored_models(seed, 4, 150, dtype)
    options = {"weights": [0.5, -1.5, 1.0], "scale": 0.7}
    assert merge("dare", arrays, dtype, density=1.0, **options) == merge(
        "task_arithmetic", arrays, dtype, **options
    )
    assert merge("dare_ties", arrays, dtype, density=1.0) == merge("ties", arrays, dtype, density=1.0)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.01, 1.0))
def test_ties_trims_to_the_density(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    base, tuned = np.zeros(500), rng.standard_normal(500)
    kept = np.count_nonzero(np.frombuffer(merge("ties", [base, tuned], "F64", density=density), "<f8"))
    assert kept == max(1, int(density * 500))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_negated_diff_vectors_mirror_the_merge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    deltas = [rng.integers(-4, 5, 120) / 8.0 for _ in range(3)]
    base = np.zeros(120)
    for method in ("task_arithmetic", "ties", "dare", "dare_ties"):
        plus = np.frombuffer(merge(method, [base, *deltas], "F64"), "<f8")
        minus = np.frombuffer(merge(method, [base, *(-d for d in deltas)], "F64"), "<f8")
        np.testing.assert_array_equal(plus, -minus)


@pytest.mark.parametrize("method", ["dare", "dare_ties"])
def test_seed_and_name_change_the_mask_and_nothing_else_does(method: str) -> None:
    arrays = stored_models(0, 3, 500, "F32")
    again = merge(method, arrays, "F32", seed=3)
    assert merge(method, arrays, "F32", seed=3) == again
    assert merge(method, arrays, "F32", seed=4) != again
    assert merge_bytes(method, ArraySource("v", arrays, "F32"), {"seed": 3}) != again

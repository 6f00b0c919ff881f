"""Every merge method against its paper's equations, written whole-tensor in plain numpy, sharing no code."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from deltavcs.errors import ErrorKind, InternalError, InvalidInputError
from deltavcs.merging import blocks as sources
from deltavcs.merging.arithmetic import plan_transfer, weights_from_scores
from deltavcs.merging.blocks import ArraySource, kth_largest_magnitudes
from deltavcs.merging.fisher import fisher_average
from deltavcs.merging.methods import METHODS, method_named, settings_for
from deltavcs.merging.plan import plan_tensor, run_plan
from deltavcs.merging.products import LoraFactors, merge_lora_exact
from deltavcs.merging.regmean import regmean
from deltavcs.operators.parse import validate

TIGHT = {"rtol": 1e-13, "atol": 1e-15}


def models(count: int, shape: tuple[int, ...] = (37, 29), seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(shape)
    return [base] + [base + 0.05 * rng.standard_normal(shape) for _ in range(count - 1)]


def merge(
    method: str, arrays: list[np.ndarray], name: str = "w", block: int = 100, **options: object
) -> np.ndarray:
    source = ArraySource(name, arrays)
    plan = plan_tensor(method, source, options)
    validate(plan.op, plan.params, len(arrays))
    raw = b"".join(part.tobytes() for _, part in run_plan(plan, source, block))
    return np.frombuffer(raw, dtype="<f8").reshape(arrays[0].shape)


def test_average_and_weighted() -> None:
    xs = models(3)
    np.testing.assert_allclose(merge("average", xs), np.mean(xs, axis=0), **TIGHT)
    got = merge("weighted", xs, weights=[0.2, 0.5, 0.9])
    np.testing.assert_allclose(got, np.average(xs, axis=0, weights=[0.2, 0.5, 0.9]), **TIGHT)


def test_task_arithmetic() -> None:
    base, *tuned = models(4)
    got = merge("task_arithmetic", [base, *tuned], weights=[1.0, -0.5, 2.0], scale=0.4)
    task_vectors = np.stack([x - base for x in tuned])
    np.testing.assert_allclose(got, base + 0.4 * np.tensordot([1.0, -0.5, 2.0], task_vectors, 1), **TIGHT)


def reference_elect_and_average(task_vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weighted = task_vectors * weights[:, None]
    elected = np.sign(weighted.sum(axis=0))
    agree = (np.sign(weighted) == elected) & (weighted != 0)
    mass = (agree * weights[:, None]).sum(axis=0)
    return np.where(mass > 0, (weighted * agree).sum(axis=0) / np.where(mass > 0, mass, 1), 0)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0, [0.1, 0.9, 0.3]])
def test_ties(density: object) -> None:
    base, *tuned = models(4)
    weights = np.array([1.0, 1.0, 0.5])
    got = merge("ties", [base, *tuned], density=density, weights=list(weights), scale=0.8)
    task_vectors = np.stack([(x - base).ravel() for x in tuned])
    for i, d in enumerate(np.broadcast_to(density, 3)):
        order = np.argsort(-np.abs(task_vectors[i]))
        task_vectors[i, order[max(1, int(d * base.size)) :]] = 0
    expected = base + 0.8 * reference_elect_and_average(task_vectors, weights).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)


def reference_mask(seed: int, name: str, stream: int, density: float, n: int) -> np.ndarray:
    digest = hashlib.sha256(
        b"deltavcs dare v1\0" + seed.to_bytes(8, "little") + stream.to_bytes(4, "little") + name.encode()
    ).digest()
    state, kept = int.from_bytes(digest[:8], "little"), []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        kept.append((z ^ (z >> 31)) >> 32 < round(density * 2**32))
    return np.array(kept)


def test_dare_and_dare_ties() -> None:
    base, *tuned = models(3)
    n, densities, weights = base.size, [0.5, 0.25], np.array([1.0, 0.7])
    dropped = np.stack(
        [
            (x - base).ravel() * reference_mask(9, "layer.0", i, d, n) / d
            for i, (x, d) in enumerate(zip(tuned, densities, strict=True))
        ]
    )
    options = {"density": densities, "weights": list(weights), "scale": 0.6, "seed": 9}
    got = merge("dare", [base, *tuned], name="layer.0", **options)
    expected = base + 0.6 * (dropped * weights[:, None]).sum(axis=0).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)
    got = merge("dare_ties", [base, *tuned], name="layer.0", **options)
    expected = base + 0.6 * reference_elect_and_average(dropped, weights).reshape(base.shape)
    np.testing.assert_allclose(got, expected, **TIGHT)


def test_dare_keeps_the_expected_diff_vector() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal(200_000)
    tuned = base + 0.01
    for density in (0.1, 0.5):
        shift = merge("dare", [base, tuned], density=density) - base
        # Mean of a scaled Bernoulli: standard error 0.01·sqrt((1−d)/(d·n)).
        assert abs(shift.mean() - 0.01) < 5 * 0.01 * np.sqrt((1 - density) / (density * base.size))


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp(t: float) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 40, 30))
    omega = np.arccos(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    expected = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)
    np.testing.assert_allclose(merge("slerp", [a, b], t=t), expected, rtol=1e-11, atol=1e-13)


def test_slerp_of_collinear_and_zero_vectors_is_straight() -> None:
    a = np.arange(1.0, 9.0)
    np.testing.assert_allclose(merge("slerp", [a, 3 * a], t=0.25), 1.5 * a, **TIGHT)
    np.testing.assert_allclose(merge("slerp", [a, 0 * a], t=0.25), 0.75 * a, **TIGHT)
    with pytest.raises(InvalidInputError) as caught:
        merge("slerp", [a, a * np.nan])
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT


def test_fisher() -> None:
    rng = np.random.default_rng(3)
    xs, fs = rng.standard_normal((3, 50)), rng.random((3, 50))
    fs[:, 7] = 0.0
    got = fisher_average(list(xs), list(fs), weights=[1.0, 2.0, 0.5], floor=1e-6)
    w = np.array([1.0, 2.0, 0.5])[:, None] * np.maximum(fs, 1e-6)
    np.testing.assert_allclose(got, (w * xs).sum(0) / w.sum(0), **TIGHT)
    equal = fisher_average(list(xs), [np.zeros(50)] * 3)
    np.testing.assert_allclose(equal, xs.mean(0), **TIGHT)


def gram_layers(seed: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    weights = list(rng.standard_normal((3, 6, 8)))
    inputs = rng.standard_normal((3, 40, 8))
    return weights, [x.T @ x for x in inputs]


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_regmean_is_the_closed_form(alpha: float) -> None:
    weights, grams = gram_layers()
    scaled = [alpha * g + (1 - alpha) * np.diag(np.diag(g)) for g in grams]
    # The paper's W is (in, out): ours transposed.
    expected = np.linalg.inv(sum(scaled)) @ sum(g @ w.T for g, w in zip(scaled, weights, strict=True))
    for ridge, rtol in ((0.0, 1e-10), (1e-9, 1e-6)):
        got = regmean(zip(weights, grams, strict=True), alpha=alpha, ridge=ridge)
        np.testing.assert_allclose(got, expected.T, rtol=rtol, atol=rtol)


def test_regmean_minimises_its_objective() -> None:
    rng = np.random.default_rng(5)
    weights, inputs = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 30, 5))
    merged = regmean([(w, x.T @ x) for w, x in zip(weights, inputs, strict=True)], alpha=1.0, ridge=0.0)

    def loss(candidate: np.ndarray) -> float:
        return sum(float(((x @ (candidate - w).T) ** 2).sum()) for w, x in zip(weights, inputs, strict=True))

    for _ in range(20):
        assert loss(merged) <= loss(merged + 1e-4 * rng.standard_normal(merged.shape))


def test_regmean_averages_features_that_never_fire() -> None:
    weights, grams = gram_layers()
    for gram in grams:
        gram[2, :] = gram[:, 2] = 0.0
    with pytest.raises(InvalidInputError, match="singular"):
        regmean(zip(weights, grams, strict=True), ridge=0.0)
    merged = regmean(zip(weights, grams, strict=True))
    np.testing.assert_allclose(merged[:, 2], np.mean(weights, axis=0)[:, 2], rtol=1e-9)
    silent = regmean([(w, np.zeros((8, 8))) for w in weights])
    np.testing.assert_allclose(silent, np.mean(weights, axis=0), rtol=1e-12)


def test_regmean_bad_input() -> None:
    good = (np.ones((3, 4)), np.eye(4))
    for layers in ([], [good, (np.ones((3, 5)), np.eye(5))], [(np.ones((3, 4)), np.eye(3))]):
        with pytest.raises(InvalidInputError):
            regmean(layers)
    for options in ({"alpha": 1.1}, {"ridge": -1.0}):
        with pytest.raises(InvalidInputError):
            regmean([good], **options)
    for parameters, fishers in (([], []), ([np.ones(2)], []), ([np.ones(2)], [np.ones(3)])):
        with pytest.raises(InvalidInputError):
            fisher_average(parameters, fishers)


def lora(seed: int, rank: int, scale: float) -> LoraFactors:
    rng = np.random.default_rng(seed)
    return LoraFactors(rng.standard_normal((rank, 20)), rng.standard_normal((15, rank)), scale)


def test_lora_product() -> None:
    adapters, weights = [lora(0, 3, 2.0), lora(1, 4, 0.5)], [0.5, 0.25]
    product = sum(w * f.scale * f.b @ f.a for f, w in zip(adapters, weights, strict=True))
    for rank in (None, 7, 9):
        merged = merge_lora_exact(adapters, weights, rank)
        assert merged.relative_error == 0.0
        assert merged.a.shape == (rank or 7, 20)
        assert merged.b.shape == (15, rank or 7)
        np.testing.assert_allclose(merged.b @ merged.a, product, rtol=1e-12, atol=1e-13)
    u, s, vt = np.linalg.svd(product)
    for rank in (1, 3, 6):
        merged = merge_lora_exact(adapters, weights, rank)
        best = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(merged.b @ merged.a, best, rtol=1e-9, atol=1e-11)
        error = np.linalg.norm(product - best) / np.linalg.norm(product)
        assert merged.relative_error == pytest.approx(error, rel=1e-9)


def test_lora_cut_that_loses_nothing() -> None:
    one = lora(2, 4, 1.0)
    merged = merge_lora_exact([one, one], [0.5, 0.5], 4)
    assert merged.relative_error < 1e-14
    np.testing.assert_allclose(merged.b @ merged.a, one.b @ one.a, rtol=1e-11, atol=1e-12)
    zero = merge_lora_exact([one, one], [1.0, -1.0], 2)
    assert zero.relative_error >= 0.0
    np.testing.assert_allclose(zero.b @ zero.a, 0.0, atol=1e-12)


def test_lora_bad_input() -> None:
    good = lora(0, 3, 1.0)
    bad = LoraFactors(good.a[:, :5], good.b, 1.0)
    for factors, weights, rank in (
        ([], [], None),
        ([good], [1.0, 2.0], None),
        ([good], [float("nan")], None),
        ([good], [1.0], 0),
        ([good, bad], [1.0, 1.0], None),
    ):
        with pytest.raises(InvalidInputError):
            merge_lora_exact(factors, weights, rank)


def test_transfer_params() -> None:
    plan = plan_transfer(0.8)
    assert (plan.op, plan.params) == ("linear", {"program": [0, 1, 2, "-", ["*", (0.8).hex()], "+"]})
    assert plan_transfer().params["program"][4] == ["*", "0x1.0000000000000p+0"]  # type: ignore[index]


def test_weights_from_scores() -> None:
    assert weights_from_scores([0.2, 0.6], higher_is_better=True) == (0.2, 0.6)
    best, worse = weights_from_scores([2.0, 2.5], higher_is_better=False, temperature=0.5)
    assert best == 1.0
    assert worse == pytest.approx(np.exp(-1.0))
    for bad in ([], [float("nan")], [-1.0], [0.0]):
        with pytest.raises(InvalidInputError):
            weights_from_scores(bad, higher_is_better=True)
    with pytest.raises(InvalidInputError):
        weights_from_scores([1.0], higher_is_better=False, temperature=0.0)


# --- order statistics -------------------------------------------------------------------------------


@pytest.mark.parametrize("gather", [0, 5, 1 << 20])
def test_kth_largest_is_exact(gather: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "GATHER_ELEMENTS", gather)
    rng = np.random.default_rng(1)
    columns = [
        rng.standard_normal(2000),
        rng.standard_normal(2000) * 10.0 ** rng.integers(-300, 300, 2000),
        rng.integers(-3, 4, 2000).astype(np.float64),  # heavy ties
        1.0 + rng.integers(0, 50, 2000) * 2.0**-52,  # differ in the last bits only
        np.where(rng.random(2000) < 0.3, 5e-324, -0.0),
    ]

    def blocks() -> object:
        return ([c[i : i + 300] for c in columns] for i in range(0, 2000, 300))

    for k in (1, 2, 400, 1999, 2000):
        expected = [float(np.sort(np.abs(c))[::-1][k - 1]) for c in columns]
        assert kth_largest_magnitudes(blocks, [k] * 5) == expected  # type: ignore[arg-type]


def test_not_finite_magnitudes_rank_last() -> None:
    column = np.array([np.nan, np.inf, 1.0, -3.0, 2.0])
    got = kth_largest_magnitudes(lambda: iter([[column]]), [2])
    assert got == [2.0]


# --- the interface ----------------------------------------------------------------------------------


def test_registry_is_complete() -> None:
    expected = "average weighted task_arithmetic ties dare dare_ties slerp fisher regmean"
    assert list(METHODS) == expected.split()
    for name, method in METHODS.items():
        assert method.name == name
        assert method.reference
        assert (method.plan is None) == (method.compute is not None) == (method.statistics is not None)
    assert method_named("dare-ties") is METHODS["dare_ties"]


@pytest.mark.parametrize(
    ("method", "options", "n_models"),
    [
        ("ties", {"densty": 0.2}, 2),
        ("ties", {"density": 0.0}, 2),
        ("ties", {"density": 1.5}, 2),
        ("ties", {"density": [0.2]}, 2),
        ("ties", {"density": "0.2"}, 2),
        ("ties", {"density": True}, 2),
        ("ties", {"weights": -1.0}, 2),
        ("ties", {"scale": float("nan")}, 2),
        ("dare", {"seed": 1.5}, 2),
        ("dare", {"seed": -1}, 2),
        ("weighted", {}, 2),
        ("slerp", {}, 3),
        ("slerp", {"t": 2}, 2),
        ("average", {"weights": [1.0, 2.0]}, 2),
    ],
)
def test_options_that_do_not_fit(method: str, options: dict[str, object], n_models: int) -> None:
    with pytest.raises(InvalidInputError) as caught:
        settings_for(METHODS[method], options, n_models)
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_plan_refuses_what_it_cannot_do() -> None:
    xs = models(2)
    for method in ("fisher", "regmean", "alchemy"):
        with pytest.raises(InvalidInputError):
            plan_tensor(method, ArraySource("w", xs), {})
    with pytest.raises(InvalidInputError) as caught:
        plan_tensor("average", ArraySource("w", xs, "I32"), {})
    assert caught.value.kind is ErrorKind.UNSUPPORTED_DTYPE
    with pytest.raises(InvalidInputError):
        plan_tensor("weighted", ArraySource("w", xs), {"weights": 0.0})


def test_a_source_that_breaks_its_contract_is_a_bug() -> None:
    class Short(ArraySource):
        def blocks(self, block_elements: int):  # type: ignore[no-untyped-def]
            yield 0, [array.reshape(-1)[:3] for array in self.arrays]

    with pytest.raises(InternalError):
        list(run_plan(plan_tensor("average", ArraySource("w", models(2)), {}), Short("w", models(2))))


def test_empty_and_scalar_tensors() -> None:
    for shape in ((0,), ()):
        xs = [np.full(shape, 1.0), np.full(shape, 3.0)]
        for method in ("average", "task_arithmetic", "ties", "dare", "dare_ties", "slerp"):
            assert merge(method, xs).shape == shape
    assert merge("average", xs) == 2.0


def test_bfloat16_results_are_rounded_once() -> None:
    xs = [x.ravel() for x in models(3)]
    source = ArraySource("w", xs, "BF16")
    plan = plan_tensor("task_arithmetic", source, {"scale": 0.3})
    raw = b"".join(part.tobytes() for _, part in run_plan(plan, source, 64))
    exact = xs[0] + ((xs[1] - xs[0]) + (xs[2] - xs[0])) * 0.3
    bits = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
    assert np.all(np.abs(bits.view(np.float32) - exact) <= np.abs(exact) * 2.0**-8)


def test_merging_does_not_load_torch() -> None:
    modules = "methods plan products".split()
    code = ";".join(f"import deltavcs.merging.{module}" for module in modules)
    check = f"{code}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


class Generated:
    """A source that makes its blocks as they are asked for."""

    name, dtype, n_inputs = "w", "BF16", 3

    def __init__(self, n: int) -> None:
        self.n = n

    def blocks(self, block_elements: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        for start in range(0, self.n, block_elements):
            rng = np.random.default_rng(start)
            yield start, list(rng.standard_normal((3, min(block_elements, self.n - start))))


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_memory_does_not_grow_with_the_tensor(method: str) -> None:
    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            plan = plan_tensor(method, Generated(n), {})
            for _ in run_plan(plan, Generated(n)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(1 << 20), peak(1 << 22)
    assert large < small + (8 << 20)  # the tensor itself grows by 3 · 24 MiB
    assert large < 80 << 20

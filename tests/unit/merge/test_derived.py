"""The derived operators against equations written straight from the papers, and against hostile input."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.errors import ErrorKind, FormatError
from deltavcs.operators import parse as derived
from deltavcs.operators.mask import keep_mask, mask_key, random_words

H = float.hex


def splitmix64(seed: int) -> Iterator[int]:
    """Vigna's reference splitmix64.c, in Python integers."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        yield z ^ (z >> 31)


def tensors(count: int, n: int = 501, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(n)
    return [base] + [base + 0.1 * rng.standard_normal(n) for _ in range(count - 1)]


# --- the generator ----------------------------------------------------------------------------------


def test_random_words_are_splitmix64() -> None:
    assert [hex(int(w)) for w in random_words(0, 0, 3)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    for key in (1234567, 2**64 - 1, 0xDEADBEEF << 20):
        reference = splitmix64(key)
        expected = [next(reference) for _ in range(70)]
        assert random_words(key, 0, 70).tolist() == expected
        assert random_words(key, 33, 37).tolist() == expected[33:]


def test_words_do_not_depend_on_where_a_block_starts() -> None:
    whole = random_words(99, 0, 40_000)
    for start, count in ((0, 1), (16_383, 2), (16_384, 20_000), (39_999, 1), (7, 0)):
        np.testing.assert_array_equal(random_words(99, start, count), whole[start : start + count])


def test_mask_key_is_as_specified() -> None:
    text = b"deltavcs dare v1\0" + (7).to_bytes(8, "little") + (2).to_bytes(4, "little") + "é.weight".encode()
    assert mask_key(7, "é.weight", 2) == int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def binomial_slack(n: int, p: float, sigmas: float = 5.0) -> float:
    return sigmas * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mask_rate_and_independence(p: float) -> None:
    n = 400_000
    keep = round(p * 2**32)
    a = keep_mask(mask_key(0, "w", 0), keep, 0, n)
    assert abs(int(a.sum()) - n * p) < binomial_slack(n, p)
    others = [
        keep_mask(mask_key(0, "w", 1), keep, 0, n),  # another fine-tune
        keep_mask(mask_key(1, "w", 0), keep, 0, n),  # another seed
        keep_mask(mask_key(0, "v", 0), keep, 0, n),  # another tensor
        *(np.roll(a, lag) for lag in (1, 2, 64, 4096)),  # another element
    ]
    for b in others:
        both = int((a & b).sum())
        assert abs(both - n * p * p) < binomial_slack(n, p * p)
    # Runs: counts in 256 equal cells follow the binomial (chi-square, 256 degrees of freedom).
    cells = a[: n // 256 * 256].reshape(256, -1)
    size = cells.shape[1]
    chi2 = float((((cells.sum(axis=1) - size * p) ** 2) / (size * p * (1 - p))).sum())
    assert abs(chi2 - 256) < 6 * math.sqrt(2 * 256)


def test_mask_bounds() -> None:
    assert not keep_mask(5, 0, 0, 1000).any()
    assert keep_mask(5, 1 << 32, 0, 1000).all()
    word = next(splitmix64(5)) >> 32
    assert not keep_mask(5, word, 0, 1)[0]
    assert keep_mask(5, word + 1, 0, 1)[0]


# --- linear -----------------------------------------------------------------------------------------


def test_transfer_is_its_equation_to_the_bit() -> None:
    t, tuned, s = tensors(3)
    got = derived.evaluate("linear", {"program": [0, 1, 2, "-", ["*", H(0.8)], "+"]}, [t, tuned, s], 0)
    expected = [float(a) + 0.8 * (float(b) - float(c)) for a, b, c in zip(t, tuned, s, strict=True)]
    assert got.tolist() == expected


def test_division_and_order() -> None:
    x, y, z = tensors(3)
    program = [0, 1, "+", 2, "+", ["/", H(3.0)]]
    got = derived.evaluate("linear", {"program": program}, [x, y, z], 0)
    assert got.tolist() == [
        ((a + b) + c) / 3.0 for a, b, c in zip(*map(np.ndarray.tolist, (x, y, z)), strict=True)
    ]


# --- TIES, DARE -------------------------------------------------------------------------------------


def naive_disjoint_mean(terms: list[float], weights: list[float]) -> float:
    total = 0.0
    for term in terms:
        total += term
    if total == 0 or math.isnan(total):
        return 0.0
    chosen = [(t, w) for t, w in zip(terms, weights, strict=True) if t * math.copysign(1, total) > 0]
    num = den = 0.0
    for t, w in chosen:
        num, den = num + t, den + w
    return num / den if den > 0 else 0.0


def test_ties_is_its_equations() -> None:
    inputs = tensors(4)
    thresholds, weights, scale = [0.05, 0.1, 0.02], [1.0, 0.5, 2.0], 0.7
    params = {
        "lambda": H(scale),
        "thresholds": [H(t) for t in thresholds],
        "weights": [H(w) for w in weights],
    }
    got = derived.evaluate("ties", params, inputs, 0)
    for e in range(len(got)):
        base = float(inputs[0][e])
        deltas = [float(x[e]) - base for x in inputs[1:]]
        trimmed = [d if abs(d) >= t else 0.0 for d, t in zip(deltas, thresholds, strict=True)]
        terms = [d * w for d, w in zip(trimmed, weights, strict=True)]
        assert got[e] == base + naive_disjoint_mean(terms, weights) * scale


def test_ties_where_terms_cancel_keeps_the_base() -> None:
    params = {"lambda": H(1.0), "thresholds": [H(0.0)] * 2, "weights": [H(1.0)] * 2}
    inputs = [np.zeros(4), np.array([1.0, 1.0, -2.0, np.nan]), np.array([-1.0, 3.0, -4.0, 5.0])]
    assert derived.evaluate("ties", params, inputs, 0).tolist() == [0.0, 2.0, -3.0, 5.0]


def dare_params(count: int, **more: object) -> dict[str, object]:
    return {
        "keep": [round(0.3 * 2**32)] * count,
        "lambda": H(0.9),
        "scales": [H(1 / 0.3)] * count,
        "seed": 42,
        "tensor": "layer.weight",
        **more,
    }


def naive_kept(seed: int, name: str, stream: int, keep: int, n: int) -> list[bool]:
    text = b"deltavcs dare v1\0" + seed.to_bytes(8, "little") + stream.to_bytes(4, "little") + name.encode()
    words = splitmix64(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
    return [next(words) >> 32 < keep for _ in range(n)]


def test_dare_and_dare_ties_are_their_equations() -> None:
    inputs = tensors(3)
    n, weights = len(inputs[0]), [1.0, 3.0]
    masks = [naive_kept(42, "layer.weight", i, round(0.3 * 2**32), n) for i in range(2)]
    dare = derived.evaluate("dare", dare_params(2), inputs, 0)
    ties = derived.evaluate("dare_ties", dare_params(2, weights=[H(w) for w in weights]), inputs, 0)
    for e in range(n):
        base = float(inputs[0][e])
        kept = [
            (float(x[e]) - base) * (1 / 0.3) if mask[e] else 0.0
            for x, mask in zip(inputs[1:], masks, strict=True)
        ]
        assert dare[e] == base + (kept[0] + kept[1]) * 0.9
        terms = [k * w for k, w in zip(kept, weights, strict=True)]
        assert ties[e] == base + naive_disjoint_mean(terms, weights) * 0.9


CASES: list[tuple[str, dict[str, object], int]] = [
    ("linear", {"program": [0, 1, 2, "-", ["*", H(0.8)], "+", ["/", H(3.0)]]}, 3),
    ("ties", {"lambda": H(0.7), "thresholds": [H(0.05), H(0.1)], "weights": [H(1.0), H(0.3)]}, 3),
    ("dare", dare_params(2), 3),
    ("dare_ties", dare_params(2, weights=[H(1.0), H(0.3)]), 3),
]


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_blocks_do_not_matter(op: str, params: dict[str, object], n_inputs: int) -> None:
    inputs = tensors(n_inputs, n=3001)
    whole = derived.evaluate(op, params, inputs, 0)
    for size in (1, 7, 1000):
        for start in list(range(0, 3001, size))[:12]:
            part = derived.evaluate(op, params, [x[start : start + size] for x in inputs], start)
            assert part.tobytes() == whole[start : start + size].tobytes()


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_large_blocks_do_not_matter(op: str, params: dict[str, object], n_inputs: int) -> None:
    inputs = tensors(n_inputs, n=100_001)
    whole = derived.evaluate(op, params, inputs, 0)
    for start, end in ((0, 40_000), (32_769, 100_001), (99_000, 99_001)):
        part = derived.evaluate(op, params, [x[start:end] for x in inputs], start)
        assert part.tobytes() == whole[start:end].tobytes()


@pytest.mark.parametrize(("op", "params", "n_inputs"), CASES)
def test_params_survive_json(op: str, params: dict[str, object], n_inputs: int) -> None:
    derived.validate(op, json.loads(json.dumps(params)), n_inputs)
    assert derived.parse(op, params, n_inputs) == derived.parse(op, json.loads(json.dumps(params)), n_inputs)


# --- hostile input ----------------------------------------------------------------------------------

ONE = H(1.0)
BAD_LINEAR = [
    {},
    {"program": []},
    {"program": "0"},
    {"program": [0, "+"]},
    {"program": [0, 0]},
    {"program": [0, "+", 1]},
    {"program": [["*", ONE], 0]},
    {"program": [3]},
    {"program": [-1]},
    {"program": [True]},
    {"program": [0.0]},
    {"program": [None]},
    {"program": [10**5000]},
    {"program": [0, "*"]},
    {"program": [0, ["*"]]},
    {"program": [0, ["*", 1.5]]},
    {"program": [0, ["*", "1.5"]]},
    {"program": [0, ["*", "0x1p0"]]},
    {"program": [0, ["*", "inf"]]},
    {"program": [0, ["*", "nan"]]},
    {"program": [0, ["*", "0x1.0p+99999"]]},
    {"program": [0, ["*", "0x" + "1" * 10_000]]},
    {"program": [0, ["/", H(0.0)]]},
    {"program": [0, ["/", H(-0.0)]]},
    {"program": [0, [["*"], ONE]]},
    {"program": [0] * 17 + ["+"] * 16},
    {"program": [0] + [["*", ONE]] * 5000},
    {"program": [0], "extra": 1},
]


@pytest.mark.parametrize("params", BAD_LINEAR, ids=range(len(BAD_LINEAR)))
def test_malformed_programs(params: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        derived.validate("linear", params, 3)
    assert caught.value.kind is ErrorKind.BAD_OBJECT
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("op", "change"),
    [
        ("ties", {"weights": [ONE]}),
        ("ties", {"weights": [ONE, H(-1.0)]}),
        ("ties", {"thresholds": [ONE, H(-1.0)]}),
        ("ties", {"lambda": 1.0}),
        ("dare", {"keep": [1, 2**32 + 1]}),
        ("dare", {"keep": [1, -1]}),
        ("dare", {"keep": [1, True]}),
        ("dare", {"keep": 5}),
        ("dare", {"seed": -1}),
        ("dare", {"seed": 2**53}),
        ("dare", {"seed": "0"}),
        ("dare", {"tensor": b"w"}),
        ("dare", {"tensor": "\ud800"}),
        ("dare", {"tensor": "é" * 4000}),
        ("dare", {"scales": [ONE]}),
        ("dare", {"weights": [ONE, ONE]}),
        ("dare_ties", {"weights": None}),
    ],
)
def test_malformed_parameters(op: str, change: dict[str, object]) -> None:
    params = next(p for name, p, _ in CASES if name == op)
    with pytest.raises(FormatError):
        derived.validate(op, {**params, **change}, 3)
    with pytest.raises(FormatError):
        derived.validate(op, {k: v for k, v in params.items() if k != "lambda"}, 3)
    with pytest.raises(FormatError):
        derived.validate(op, params, 1)


def test_unknown_operator_and_bad_shapes() -> None:
    with pytest.raises(FormatError) as caught:
        derived.validate("quantum", {}, 1)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_FEATURE
    for op in (None, 10**5000, ["linear"]):
        with pytest.raises(FormatError):
            derived.validate(op, {}, 1)  # type: ignore[arg-type]
    for n_inputs in (0, 257):
        with pytest.raises(FormatError):
            derived.validate("linear", {"program": [0]}, n_inputs)
    with pytest.raises(FormatError):
        derived.evaluate("linear", {"program": [0]}, [np.zeros(3), np.zeros(4)], 0)
    with pytest.raises(FormatError):
        derived.evaluate("linear", {"program": [0]}, [np.zeros((3, 1))], 0)
    with pytest.raises(FormatError):
        derived.evaluate("linear", {"program": [0]}, [np.zeros(3)], -1)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["+", "-", "*", "/", ONE, 0, 1]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
KEYS = ["program", "lambda", "thresholds", "weights", "keep", "scales", "seed", "tensor"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(derived.OPERATORS),
    st.dictionaries(st.sampled_from(KEYS), json_values),
    st.integers(-1, 5),
)
def test_any_json_is_accepted_or_refused_cleanly(op: str, params: dict[str, object], n_inputs: int) -> None:
    try:
        derived.validate(op, params, n_inputs)
    except FormatError:
        return
    assert derived.evaluate(op, params, [np.ones(2)] * n_inputs, 0).shape == (2,)


def test_hex_scalar() -> None:
    assert derived.hex_scalar(0.1) == "0x1.999999999999ap-4"
    for bad in (math.inf, -math.inf, math.nan):
        with pytest.raises(FormatError):
            derived.hex_scalar(bad)

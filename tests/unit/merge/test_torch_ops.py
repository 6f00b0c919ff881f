"""torch equals numpy to the bit, on the CPU and on every CUDA device at hand."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.errors import FormatError
from deltavcs.operators import parse as derived
from deltavcs.operators.mask import keep_mask
from deltavcs.tensors import cast

torch = pytest.importorskip("torch")
torch_ops = pytest.importorskip("deltavcs.operators.torch_ops")

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]
DTYPES = list(cast.LAYOUTS)
H = float.hex


def awkward_doubles(n: int, seed: int = 0) -> np.ndarray:
    """Doubles of every magnitude, midpoints of the narrow formats, zeros, infinities and NaNs."""
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, 1 << 64, n, dtype=np.uint64).view(np.float64)
    weights = rng.standard_normal(n) * 0.02
    small = rng.standard_normal(n) * 2.0 ** rng.integers(-160, 20, n)
    bits = (rng.standard_normal(n).view(np.uint64) >> np.uint64(44)) << np.uint64(44)
    midpoints = (bits + rng.integers(0, 3, n).astype(np.uint64) - np.uint64(1)).view(np.float64)
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 480, 65504, 65520, 2.0**-133, 2.0**-134]
    )
    return np.concatenate([anything, weights, small, midpoints, special, -special])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_equals_numpy(dtype: str, device: str) -> None:
    values = awkward_doubles(20_000)
    expected = cast.from_float64(values, dtype)
    got = torch_ops.from_float64(torch.from_numpy(values).to(device), dtype)
    assert got.cpu().numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_widening_equals_numpy(dtype: str, device: str) -> None:
    size = cast.LAYOUTS[dtype].bits // 8
    rng = np.random.default_rng(1)
    raw = (
        np.arange(1 << 16, dtype="<u2").view(np.uint8)
        if size <= 2
        else rng.integers(0, 256, size * 9999, np.uint8)
    )
    expected = cast.to_float64(raw, dtype)
    wide = torch_ops.to_float64(torch.from_numpy(raw).to(device), dtype).cpu().numpy()
    numbers = ~np.isnan(expected)
    assert wide[numbers].tobytes() == expected[numbers].tobytes()
    assert np.isnan(wide[~numbers]).all()


@pytest.mark.parametrize("device", DEVICES)
def test_unaligned_slices_are_read(device: str) -> None:
    raw = torch.arange(33, dtype=torch.uint8, device=device)
    for dtype in ("F64", "F32", "BF16", "F16"):
        expected = cast.to_float64(raw[1:].cpu().numpy(), dtype)
        assert torch_ops.to_float64(raw[1:], dtype).cpu().numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF])
def test_masks_equal_numpy(key: int, device: str) -> None:
    for start in (0, 12_345, (1 << 40) + 7):
        like = torch.empty(5000, dtype=torch.float64, device=device)
        for keep in (0, 1 << 30, 3_000_000_000, 1 << 32):
            got = torch_ops.keep_mask(key, keep, start, like).cpu().numpy()
            np.testing.assert_array_equal(got, keep_mask(key, keep, start, 5000))


DARE = {"keep": [1 << 31, 1 << 30, 1 << 32], "lambda": H(0.9), "scales": [H(2.0), H(4 / 3), H(0.1)]}
OPERATORS = {
    "linear": {"program": [0, 1, 2, "-", ["*", H(0.8)], "+", 3, "+", ["/", H(3.0)], ["/", H(-7.1)]]},
    "ties": {
        "lambda": H(0.7),
        "thresholds": [H(0.001), H(0.02), H(0.0)],
        "weights": [H(1.0), H(0.3), H(0.1)],
    },
    "dare": {**DARE, "seed": 7, "tensor": "a.weight"},
    "dare_ties": {**DARE, "seed": 7, "tensor": "a.weight", "weights": [H(1.0), H(0.3), H(0.1)]},
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("op", list(OPERATORS))
def test_operators_equal_numpy(op: str, device: str) -> None:
    assert set(OPERATORS) == set(derived.OPERATORS)
    inputs = [awkward_doubles(12_000, seed) for seed in range(4)]
    expected = derived.evaluate(op, OPERATORS[op], inputs, 1001)
    got = torch_ops.evaluate(op, OPERATORS[op], [torch.from_numpy(x).to(device) for x in inputs], 1001)
    for dtype in DTYPES:
        assert (
            torch_ops.from_float64(got, dtype).cpu().numpy().tobytes()
            == cast.from_float64(expected, dtype).tobytes()
        )


def test_bad_input() -> None:
    with pytest.raises(FormatError):
        torch_ops.to_float64(torch.zeros(3, dtype=torch.uint8), "BF16")
    with pytest.raises(FormatError):
        torch_ops.evaluate("linear", {"program": [0]}, [torch.zeros(3, dtype=torch.float32)], 0)
    with pytest.raises(FormatError):
        torch_ops.evaluate("linear", {"program": [0]}, [torch.zeros(3).double(), torch.zeros(4).double()], 0)

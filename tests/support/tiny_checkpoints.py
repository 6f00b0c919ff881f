"""Checkpoints of two tensors: an embedding and one matrix."""

from __future__ import annotations

from deltavcs.testing.checkpoints import RawTensor, raw_tensor

SHAPES = {"model.embed_tokens.weight": (12, 4), "model.layers.0.weight": (8, 8)}


def weights(seed: int = 0, rows: int = 12, prefix: str = "") -> dict[str, RawTensor]:
    """Random weights; `rows` is the size of the vocabulary."""
    shapes = {**SHAPES, "model.embed_tokens.weight": (rows, 4)}
    return {prefix + k: raw_tensor("BF16", s, seed=seed + i) for i, (k, s) in enumerate(shapes.items())}

"""Weights to measure with: the real pairs, a pair trained on the spot, large files made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from deltavcs.codec.numbers import LAYOUTS

from .base import Context

Bytes = np.ndarray
Tensors = dict[str, tuple[str, Bytes]]
Shapes = dict[str, list[int]]
_STACK = 8


def read_safetensors(path: Path) -> tuple[Tensors, Shapes]:
    """Float tensors of a file, as bytes, and their shapes."""
    data = np.fromfile(path, np.uint8)
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    found, shapes = {}, {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        if entry["dtype"] in LAYOUTS and stop > start:
            found[name] = entry["dtype"], data[8 + length + start : 8 + length + stop].copy()
            shapes[name] = entry["shape"]
    return found, shapes


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], list[Bytes]]]) -> None:
    """Write a file; the bytes of a tensor are given in pieces."""
    header, at = {}, 0
    for name, (dtype, shape, pieces) in tensors.items():
        size = sum(piece.nbytes for piece in pieces)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, pieces in tensors.values():
            for piece in pieces:
                file.write(memoryview(piece).cast("B"))


def train_pair(quick: bool) -> tuple[Tensors, Tensors]:
    """A small byte-level language model and its fine-tune, trained on the spot, in bf16."""
    import torch

    torch.manual_seed(0)
    width, steps = (64, 2) if quick else (1024, 300)
    text = b"".join(p.read_bytes() for p in sorted(Path(__file__).parents[1].rglob("deltavcs/**/*.py")))
    data = torch.tensor(list(text))
    model = torch.nn.Sequential(
        torch.nn.Embedding(256, 64),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 64, width),
        torch.nn.GELU(),
        torch.nn.Linear(width, width),
        torch.nn.GELU(),
        torch.nn.Linear(width, 256),
    )

    def train(n: int, rate: float, corpus: torch.Tensor) -> Tensors:
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
        for _ in range(n):
            rows = corpus.unfold(0, 17, 1)[torch.randint(0, len(corpus) - 17, (64,))]
            loss = torch.nn.functional.cross_entropy(model(rows[:, :16]), rows[:, 16])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        state = {k: v.to(torch.bfloat16).view(torch.uint8).flatten() for k, v in model.state_dict().items()}
        return {name: ("BF16", value.numpy().copy()) for name, value in state.items()}

    half = len(data) // 2
    return train(steps, 1e-3, data[:half]), train(-(-steps // 3), 2e-5, data[half:])


def pairs_in(ctx: Context) -> dict[str, tuple[Tensors, Tensors]]:
    """Base and fine-tune by name; a self-made pair if the folder has none or the run is a quick one."""
    found = {}
    for base in sorted(ctx.data.glob("*base*.safetensors")) if ctx.data.is_dir() and not ctx.quick else []:
        tuned = base.with_name(base.name.replace("base", "finetuned"))
        if tuned.exists():
            found[base.stem] = read_safetensors(base)[0], read_safetensors(tuned)[0]
    return found or {"trained on the spot, bf16": train_pair(ctx.quick)}


def bf16_pair(ctx: Context) -> tuple[str, tuple[Tensors, Tensors]]:
    """The first pair of bf16, with its name."""
    for name, (base, tuned) in pairs_in(ctx).items():
        if all(dtype == "BF16" for dtype, _ in base.values()):
            return name, (base, tuned)
    return "trained on the spot, bf16", train_pair(ctx.quick)


def write_large_pair(ctx: Context, folder: Path, n_bytes: int) -> str:
    """A base and a fine-tune of about `n_bytes` each in `folder`, made of real weights and real updates.

    The bf16 pair is repeated. The elements of every copy are shuffled, in base and fine-tune alike, so that
    nothing occurs twice and no coder finds matches that real models do not have; eight copies at a time are
    stacked to one tensor, which gives the sizes of tensors of a model of this size.

    Returns:
        What it is, for people.
    """
    name, (base, tuned) = bf16_pair(ctx)
    raw = sum(data.size for _, data in base.values())
    copies = max(1, round(n_bytes / raw))
    for side, tensors in (("base", base), ("tuned", tuned)):
        folder.joinpath(side).mkdir(parents=True)
        large = {}
        for first in range(0, copies, _STACK):
            group = range(first, min(first + _STACK, copies))
            for key, (dtype, data) in tensors.items():
                word = data.view(LAYOUTS[dtype].word)
                orders = (np.random.default_rng([copy, word.size]).permutation(word.size) for copy in group)
                pieces = [word[order] for order in orders]
                shape = [len(group) * word.size]
                large[f"copies.{first}.{key}"] = dtype, shape, pieces
        write_safetensors(folder / side / "model.safetensors", large)
    return f"{name}, {copies} times"

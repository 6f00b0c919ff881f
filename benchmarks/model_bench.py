"""Whole commands on models of growing size: seconds, peak anonymous memory, bytes stored.

The models are synthetic: a sharded bf16 base (largest tensor an eighth of it, at most 512 MiB), a second
release and a fine-tune; normally distributed weights, and updates whose size varies from row to row.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deltavcs.repo import init_repository

from . import plots
from .base import GIB, MIB, Context, Result, dvx, say, settle, table

SHARD_BYTES = GIB
MEMORY = "2GiB"
TARGET_MIB = 2.5 * 1024
_TABLE = 1 << 24
_BLOCK = 1 << 20
_ROW = 512
Shapes = list[tuple[str, tuple[int, int]]]


def tensor_plan(total: int) -> Shapes:
    """Names and shapes that add up to about `total` bytes of bf16."""
    largest = min(512 * MIB, total // 8)
    columns = 4096 if largest >= 64 * MIB else 512
    plan = [("model.embed_tokens.weight", (largest // 2 // columns, columns))]
    left, i = total - largest, 0
    while left > 0:
        size = min(left, largest // 4 if i % 5 else largest // 2)
        rows = max(1, size // 2 // columns)
        plan.append((f"model.layers.{i // 5}.part{i % 5}.weight", (rows, columns)))
        left -= rows * columns * 2
        i += 1
    return plan


@dataclass(frozen=True)
class Noise:
    """Normally distributed numbers, drawn once; blocks take them from random places on."""

    values: np.ndarray

    @classmethod
    def draw(cls, count: int = _TABLE) -> Noise:
        return cls(np.random.default_rng(0).standard_normal(count + _BLOCK, np.float32))

    def block(self, rng: np.random.Generator, count: int) -> np.ndarray:
        at = int(rng.integers(0, self.values.size - count + 1))
        return self.values[at : at + count]


def write_model(
    folder: Path, plan: Shapes, noise: Noise, seed: int, base: Path | None = None, sigma: float = 0.0
) -> None:
    """Write shards; a fine-tune adds updates of `sigma` times the weights' scale to most of `base`."""
    folder.mkdir(parents=True)
    shards: list[Shapes] = [[]]
    for item in plan:
        if sum(2 * a * b for _, (a, b) in shards[-1]) >= SHARD_BYTES:
            shards.append([])
        shards[-1].append(item)
    weight_map = {}
    for n, shard in enumerate(shards, 1):
        name = f"model-{n:05}-of-{len(shards):05}.safetensors"
        weight_map.update(dict.fromkeys((key for key, _ in shard), name))
        make = _weights(noise) if base is None else _updates(noise, base / name, sigma)
        _write_shard(folder / name, shard, [seed, n], make)
    index = {"metadata": {"total_size": sum(2 * a * b for _, (a, b) in plan)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "torch_dtype": "bfloat16"}))


Maker = Callable[[np.random.Generator, int, int], np.ndarray]


def _weights(noise: Noise) -> Maker:
    """Makes weights: generator, place in the file, number of elements -> bf16 bits."""
    bits = Noise(_to_bf16(noise.values * np.float32(0.02)))
    return lambda rng, at, count: bits.block(rng, count)


def _updates(noise: Noise, base: Path, sigma: float) -> Maker:
    """Makes weights that differ from those at the same place of `base`."""
    old = np.memmap(base, np.uint16, mode="r")

    def make(rng: np.random.Generator, at: int, count: int) -> np.ndarray:
        scale = rng.lognormal(0, 0.7, -(-count // _ROW)).astype(np.float32) * np.float32(0.02 * sigma)
        steps = noise.block(rng, count).copy()
        whole = count // _ROW * _ROW
        steps[:whole].reshape(-1, _ROW)[:] *= scale[: whole // _ROW, None]
        steps[whole:] *= scale[-1]
        steps += (old[at // 2 : at // 2 + count].astype(np.uint32) << 16).view(np.float32)
        return _to_bf16(steps)

    return make


def _to_bf16(values: np.ndarray) -> np.ndarray:
    """float32 to bf16 bits, to nearest even; values are overwritten."""
    bits = values.view(np.uint32)
    odd = bits >> 16
    odd &= 1
    odd += 0x7FFF
    bits += odd
    return bits.view(np.uint16)[1::2].copy()


def _write_shard(path: Path, shard: Shapes, seed: list[int], make: Maker) -> None:
    header, at = {}, 0
    for name, (a, b) in shard:
        header[name] = {"dtype": "BF16", "shape": [a, b], "data_offsets": [at, at + 2 * a * b]}
        at += 2 * a * b
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    places = [
        (i, start + i * 2 * _BLOCK, min(_BLOCK, at // 2 - i * _BLOCK)) for i in range(-(-at // 2 // _BLOCK))
    ]

    def block(place: tuple[int, int, int]) -> np.ndarray:
        i, offset, count = place
        return make(np.random.default_rng([*seed, i]), offset, count)

    with path.open("wb") as file, ThreadPoolExecutor(2) as pool:
        file.write(len(text).to_bytes(8, "little") + text)
        for first in range(0, len(places), 16):
            for data in pool.map(block, places[first : first + 16]):
                file.write(data)


def measure(gib: float, folder: Path, quick: bool) -> Result:
    """Run import, commit, transfer and checkout on a model of `gib` GiB."""
    plan, noise, repo = tensor_plan(int(gib * GIB)), Noise.draw(min(_TABLE, int(gib * GIB))), folder / "repo"
    write_model(folder / "v1", plan, noise, 1)
    write_model(folder / "v2", plan, noise, 2, folder / "v1", 0.05)
    write_model(folder / "tuned", plan, noise, 3, folder / "v1", 0.01)
    init_repository(repo)
    steps = {
        "import v1": ["import", folder / "v1", "--as", "v1"],
        "import v2": ["import", folder / "v2", "--as", "v2"],
        "commit tuned": ["commit", folder / "tuned", "--base", "v1", "--as", "tuned"],
        "transfer to v2": ["transfer", "--from", "v1", "--to", "v2"],
        "checkout v1": ["checkout", "v1", "-o", folder / "out"],
        "checkout tuned": ["checkout", "tuned", "-o", folder / "out"],
        "checkout v2+tuned": ["checkout", "v2+tuned", "-o", folder / "out"],
    }
    if quick:
        steps = {name: steps[name] for name in ("import v1", "commit tuned", "checkout tuned")}
    commands = {}
    for name, words in steps.items():
        settle()
        done = dvx(repo, *words, "--memory", MEMORY, watch=True)
        commands[name] = {"seconds": done.seconds, "peak_mib": done.peak_anon_mib}
        source = folder / name.removeprefix("checkout ")
        if name.startswith("checkout"):
            for path in source.iterdir() if source.exists() else ():
                subprocess.run(["cmp", str(path), str(folder / "out" / path.name)], check=True)
            shutil.rmtree(folder / "out")
    stored = sum(p.stat().st_size for p in (repo / ".dvx/packs").iterdir())
    largest = max(2 * a * b for _, (a, b) in plan)
    return {"gib": gib, "largest_mib": largest / MIB, "commands": commands, "stored_mib": stored / MIB}


def sizes(ctx: Context) -> list[float]:
    """GiB of each model."""
    return [4 / 1024] if ctx.quick else [gib for gib in (0.25, 0.5, 1, 2, 4, 8, 16) if gib <= ctx.gib_max]


def run(ctx: Context) -> Result:
    """The sweep."""
    found = []
    for gib in sizes(ctx):
        say(f"  {gib:.3g} GiB")
        with ctx.folder("model") as folder:
            found.append(measure(gib, folder, ctx.quick))
    return {"sizes": found}


def render(result: Result) -> list[str]:
    found = result["sizes"]
    names = list(found[0]["commands"])
    heads = ["", *(_size(one["gib"]) for one in found)]
    lines = [
        "**Synthetic** weights and updates (`benchmarks/model_bench.py`), bf16, shards of 1 GiB, largest "
        f"tensor an eighth of the model and at most 512 MiB, `--memory {MEMORY}`. Whole commands, one run "
        "each; every checkout of a commit is compared with its source byte for byte.",
        "",
        f"![seconds by size]({plots.IMAGES}/sizes.svg)",
        "",
        "Seconds, and GiB of the model per second:",
        "",
        *table(heads, ([n, *(_speed(one, n) for one in found)] for n in names)),
    ]
    stored = [f"{one['stored_mib']:.0f} MiB" for one in found]
    lines += ["Stored for the four checkpoints (two bases, a fine-tune, a transfer):", ""]
    return lines + table(heads, [["packs", *stored]])


def render_memory(result: Result) -> list[str]:
    """The same runs, their memory."""
    found = result["sizes"]
    rows = [
        [name, *(f"{one['commands'][name]['peak_mib']:.0f} MiB" for one in found)]
        for name in found[0]["commands"]
    ]
    rows.append(["largest tensor", *(f"{one['largest_mib']:.0f} MiB" for one in found)])
    return [
        f"Peak of `RssAnon` of the process with `--memory {MEMORY}`, sampled every 5 ms; mapped file pages "
        "are not counted. The same runs as above.",
        "",
        *table(["", *(_size(one["gib"]) for one in found)], rows),
    ]


def _size(gib: float) -> str:
    return f"{gib:g} GiB" if gib >= 1 else f"{gib * 1024:g} MiB"


def _speed(one: Result, name: str) -> str:
    seconds = one["commands"][name]["seconds"]
    return f"{seconds:.2f} s ({one['gib'] / seconds:.2f})"


def plot(result: Result, folder: Path) -> None:
    found = result["sizes"]
    xs = [one["gib"] for one in found]
    series = {n: (xs, [one["commands"][n]["seconds"] for one in found]) for n in found[0]["commands"]}
    plots.lines(folder / "sizes.svg", series, "model, GiB", "seconds")

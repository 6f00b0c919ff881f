"""How encoding and decoding scale with threads, through deltavcs' own thread pool."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from deltavcs.codec import plan
from deltavcs.pool import Pool
from deltavcs.repo import init_repository
from deltavcs.resources import SPAN_BYTES, Resources, available_cores

from .base import MIB, Context, Result, alternate, dvx, ratio, timed
from .base import table as md
from .codec_contestants import chunks
from .data import Tensors, bf16_pair, read_safetensors, write_large_pair

_BYTES = 512 * MIB
_SHARES = 12
_ROUNDS = 15
ENCODE, DECODE, SMALL, CONTROL = "encode", "decode", "encode, small tensors", "sha256"


def run(ctx: Context) -> Result:
    """The bf16 pair many times over, with every number of threads."""
    counts = sorted({1, 2, *(n for n in (4, 8, 16, 32) if n < available_cores()), available_cores()})
    name, pair = bf16_pair(ctx)
    with ctx.folder("threads") as folder:
        what = write_large_pair(ctx, folder, 2 * MIB if ctx.quick else _BYTES)
        files = {side: folder / side / "model.safetensors" for side in ("base", "tuned")}
        base, tuned = (read_safetensors(path)[0] for path in files.values())
        encoding, decoding = _Encoding(base, tuned, 1), _Decoding(folder / "repo", files, tuned)
        small = _Encoding(*pair, 1 if ctx.quick else _SHARES)
        works = {
            ENCODE: (encoding.run, encoding.raw),
            DECODE: (decoding.run, decoding.raw),
            SMALL: (small.run, small.raw),
            CONTROL: (encoding.hash, encoding.raw),
        }
        contestants = {f"{key} {n}": partial(work, n) for key, (work, _) in works.items() for n in counts}
        times = alternate(contestants, ctx.reps(_ROUNDS))
        decoding.check()
    return {
        "what": what,
        "small": f"{name}, {len(small.tensors)} tensors of {small.raw / len(small.tensors) / 1e6:.2f} MB",
        "large": f"{len(encoding.tensors)} tensors of {encoding.raw / len(encoding.tensors) / 1e6:.2f} MB",
        "raw": {key: raw for key, (_, raw) in works.items()},
        "rounds": ctx.reps(_ROUNDS),
        "cores": available_cores(),
        "counts": counts,
        "seconds": {key: {str(n): min(times[f"{key} {n}"]) for n in counts} for key in works},
    }


class _Encoding:
    """Tensors in memory to payloads in memory: the choice of codec and tables, then every chunk."""

    def __init__(self, base: Tensors, tuned: Tensors, shares: int) -> None:
        self.tensors = [(d, t, base[name][1]) for name, (d, t) in tuned.items()] * shares
        self.raw = sum(t.size for _, t, _ in self.tensors)

    def run(self, threads: int) -> float:
        return timed(lambda: self._encode(threads))

    def _encode(self, threads: int) -> None:
        with Pool(Resources(threads=threads)) as pool:
            plans = pool.map(
                lambda one: (plan(one[0], [(one[1], one[2])]), one),
                self.tensors,
                size=lambda one: one[1].size,
            )
            spans = (
                (encoder, target, against)
                for encoder, (_, whole, base) in plans
                for target, against in zip(chunks(whole), chunks(base), strict=True)
            )
            for _ in pool.map(lambda s: s[0].encode(s[1], s[2]), spans, size=lambda s: s[1].size):
                pass

    def hash(self, threads: int) -> float:
        """The control: independent work in the C library, from the same memory, through the same pool."""

        def all_of_it() -> None:
            with Pool(Resources(threads=threads)) as pool:
                for _ in pool.map(lambda part: sha256(part).digest(), parts, size=len):
                    pass

        parts = [part for _, target, _ in self.tensors for part in chunks(target)]
        return timed(all_of_it)


class _Decoding:
    """Packs in the page cache to tensors in memory: base and difference decoded, every chunk proven."""

    def __init__(self, folder: Path, files: dict[str, Path], tuned: Tensors) -> None:
        repo = init_repository(folder)
        dvx(folder, "import", files["base"], "--as", "base")
        dvx(folder, "commit", files["tuned"], "--base", "base", "--as", "tuned")
        self._blobs = repo.objects.blobs
        manifest = repo.manifest(repo.resolve("tuned"))
        self._parts = [
            (manifest.tensors[name].blob, target, np.ones_like(target)) for name, (_, target) in tuned.items()
        ]
        self.raw = sum(target.size for _, target, _ in self._parts)
        for blob, _, _ in self._parts:
            self._blobs.stored(blob)

    def run(self, threads: int) -> float:
        return timed(lambda: self._decode(Resources(threads=threads)))

    def _decode(self, resources: Resources) -> None:
        self._blobs.prepare(resources)
        spans = (
            (blob, at, out[at : at + SPAN_BYTES])
            for blob, _, out in self._parts
            for at in range(0, out.size, SPAN_BYTES)
        )
        with Pool(resources) as pool:
            for _ in pool.map(
                lambda s: self._blobs.read_into(s[0], s[1], s[2].data), spans, size=lambda s: s[2].size
            ):
                pass

    def check(self) -> None:
        if not all(np.array_equal(target, out) for _, target, out in self._parts):
            raise ValueError("decoded other bytes")


def render(result: Result) -> list[str]:
    counts = result["counts"]
    lines = [
        f"{result['what']} (made as for the whole commands below; {result['large']} on average), through "
        f"deltavcs' own pool; wall clock, best of {result['rounds']} rounds in turn, {result['cores']} "
        "cores. Encoding is from memory to memory and includes the choice of codec and tables. Decoding is "
        "from packs in the page cache to memory, as `checkout` and `load_model` read: base and difference "
        "are decoded and every chunk is proven; bytes are those of the fine-tune. Small tensors are the pair "
        f"as it is ({result['small']} on average), where what Python does for a tensor weighs more. The last "
        "row is a control: what the machine gave to a second thread of SHA-256 in the same rounds.",
        "",
    ]
    rows = []
    for key, seconds in result["seconds"].items():
        speeds = [f"{result['raw'][key] / seconds[str(n)] / 1e9:.2f} GB/s" for n in counts]
        rows.append([key, *speeds, *(ratio(seconds["1"] / seconds[str(n)]) for n in counts[1:])])
    heads = [f"{n} thread{'s' * (n > 1)}" for n in counts]
    return lines + md(["", *heads, *(f"{n} / 1" for n in counts[1:])], rows)

"""How encoding and decoding scale with threads, through deltavcs' own thread pool."""

from __future__ import annotations

from functools import partial
from hashlib import sha256

import numpy as np

from deltavcs.codec import open_decoder, plan
from deltavcs.parallel import Pool, Resources, available_cores

from .base import Context, Result, alternate, ratio, timed
from .base import table as md
from .codec_contestants import chunks
from .data import Tensors, bf16_pair

_SHARES = 12
_ROUNDS = 15
CONTROL = "sha256"


def run(ctx: Context) -> Result:
    """The bf16 pair several times over, with every number of threads."""
    name, (base, tuned) = bf16_pair(ctx)
    work = _Work(base, tuned, 1 if ctx.quick else _SHARES)
    counts = sorted({1, 2, *(n for n in (4, 8, 16, 32) if n < available_cores()), available_cores()})
    contestants = {}
    for n in counts:
        contestants[f"encode {n}"] = partial(work.encode, n)
        contestants[f"decode {n}"] = partial(work.decode, n)
        contestants[f"{CONTROL} {n}"] = partial(work.hash, n)
    work.encode(1)
    times = alternate(contestants, ctx.reps(_ROUNDS))
    work.check()
    return {
        "pair": name,
        "raw": work.raw,
        "rounds": ctx.reps(_ROUNDS),
        "cores": available_cores(),
        "counts": counts,
        "seconds": {
            key: {str(n): min(times[f"{key} {n}"]) for n in counts} for key in ("encode", "decode", CONTROL)
        },
    }


class _Work:
    """A list of tensors to encode and decode; the same tensors several times over, each decoded elsewhere."""

    def __init__(self, base: Tensors, tuned: Tensors, shares: int) -> None:
        self.tensors = [(d, t, base[name][1]) for name, (d, t) in tuned.items()] * shares
        self.outs = [np.ones_like(t) for _, t, _ in self.tensors]
        self.raw = sum(t.size for _, t, _ in self.tensors)
        self.coded: list = []

    def encode(self, threads: int) -> float:
        return timed(lambda: self._encode(threads))

    def _encode(self, threads: int) -> None:
        resources = Resources(threads=threads)
        with Pool(resources) as pool:
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
            done = pool.map(lambda s: (s[0], s[0].encode(s[1], s[2])), spans, size=lambda s: s[1].size)
            self.coded = list(done)

    def hash(self, threads: int) -> float:
        """The control: independent work in the C library, from the same memory, through the same pool."""

        def all_of_it() -> None:
            with Pool(Resources(threads=threads)) as pool:
                for _ in pool.map(lambda part: sha256(part).digest(), parts, size=len):
                    pass

        parts = [part for _, target, _ in self.tensors for part in chunks(target)]
        return timed(all_of_it)

    def decode(self, threads: int) -> float:
        parts = [
            (against, out)
            for (_, _, base), whole in zip(self.tensors, self.outs, strict=True)
            for against, out in zip(chunks(base), chunks(whole), strict=True)
        ]
        decoders: dict[int, object] = {}
        for encoder, _ in self.coded:
            decoders.setdefault(id(encoder), open_decoder(encoder.codec, self.tensors[0][0], encoder.side))

        def work(item: tuple) -> None:
            (encoder, payload), (against, out) = item
            decoders[id(encoder)].decode(payload, against, out.data)

        def all_of_it() -> None:
            with Pool(Resources(threads=threads)) as pool:
                for _ in pool.map(work, zip(self.coded, parts, strict=True), size=lambda p: p[1][1].size):
                    pass

        return timed(all_of_it)

    def check(self) -> None:
        for (_, target, _), out in zip(self.tensors, self.outs, strict=True):
            if not np.array_equal(target, out):
                raise ValueError("decoded other bytes")


def render(result: Result) -> list[str]:
    counts = result["counts"]
    lines = [
        f"{result['pair']}, {result['raw'] / 1e6:.0f} MB in all, from memory to memory through deltavcs' "
        f"pool; wall clock, best of {result['rounds']} rounds in turn, {result['cores']} cores. Encoding "
        "includes planning (the choice of codec and tables). The last row is a control: what the machine "
        "gave to a second thread of SHA-256 in the same rounds.",
        "",
    ]
    rows = []
    for key, seconds in result["seconds"].items():
        speeds = [f"{result['raw'] / seconds[str(n)] / 1e9:.2f} GB/s" for n in counts]
        rows.append([key, *speeds, *(ratio(seconds["1"] / seconds[str(n)]) for n in counts[1:])])
    heads = [f"{n} thread{'s' * (n > 1)}" for n in counts]
    return lines + md(["", *heads, *(f"{n} / 1" for n in counts[1:])], rows)

"""Calls of every function of the extension modules, arguments at random: a result or an error, no crash.

Run under the sanitizers by `test_extensions_sanitized.py`, where a byte read or written too far is a failure.
"""

from __future__ import annotations

import os
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deltavcs.codec import codec_kernels as codec
from deltavcs.objects import nativeentry
from deltavcs.tensors import tensor_kernels as tensors

ROUNDS = 500
REFUSALS = (ValueError, TypeError, OverflowError, BufferError, MemoryError)
FORMATS = ((16, 7), (16, 10), (32, 23))


class _Caller:
    """Draws arguments that often fit together and often just do not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        found, other = codec.kernels(), tensors.kernels()
        assert found is not None
        assert other is not None
        assert nativeentry._extension is not None
        self.codec, self.objects, self.tensors = found[0], nativeentry._extension, other[0]
        self.levels = [number for _, number in self.codec.levels()]
        self.other_levels = [number for _, number in self.tensors.levels()]
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.file.write(self.random.randbytes(200_000))
        self.file.flush()

    def number(self, *usual: int) -> int:
        odd = (-1, 0, 1, 2, 3, 5, 17, 33, 255, 1 << 31, 1 << 40)
        return self.random.choice(usual if usual and self.random.random() < 0.9 else odd)

    def buffer(self, n_bytes: int) -> bytearray:
        """As many bytes, or nearly; often few different ones."""
        n_bytes = max(
            0, n_bytes + (self.random.choice((-2, -1, 1, 2, 7)) if self.random.random() < 0.1 else 0)
        )
        if self.random.random() < 0.3:
            return bytearray([self.random.randrange(256)]) * n_bytes
        return bytearray(self.random.randbytes(n_bytes))

    def n(self) -> int:
        return self.random.choice((0, 1, 31, 32, 33, 64, 100, 1000, 4097))

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            result = function(*args)
        except REFUSALS:
            return None
        self.done[name] += 1
        return result

    def frequencies(self, n_tables: int, n_tokens: int) -> bytes:
        """Rows that sum to 2048, and that at times do not."""
        rows = []
        for _ in range(n_tables):
            row = [0] * n_tokens
            row[-1] = 1
            for _ in range(2047 + (self.random.random() < 0.05)):
                row[min(int(self.random.expovariate(0.2)), n_tokens - 1)] += 1
            rows += row
        return struct.pack(f"<{len(rows)}H", *rows)

    def coder(self, width: int, mantissa: int, is_exp: bool) -> Any:
        if self.random.random() < 0.3:
            return self.call("open_coder", self.codec.open_coder, self.side(), width, mantissa, is_exp)
        tables = 1 if is_exp else self.number(1, 3, 17)
        table_of = bytes(min(c, tables - 1) % 256 for c in range(17)) if tables > 0 else bytes(17)
        freqs = self.frequencies(max(1, min(tables, 17)), 64 if is_exp or width == 16 else 128)
        return self.call(
            "Coder", self.codec.Coder, width, mantissa, self.number(5, 30), is_exp, table_of, freqs
        )

    def side(self) -> bytes:
        """A true side, damaged at times."""
        width, mantissa = self.random.choice(FORMATS)
        n = self.n() * width // 8
        pair = (self.buffer(n), self.buffer(n))
        tuned = self.call(
            "tune", self.codec.tune, self.random.choice(self.levels), width, mantissa, False, (pair,)
        )
        side = bytearray(tuned[1] if tuned else self.buffer(60))
        if side and self.random.random() < 0.5:
            side[self.random.randrange(len(side))] ^= 1 << self.random.randrange(8)
        return bytes(side)

    def codec_call(self) -> None:
        width, mantissa = self.random.choice(FORMATS)
        level, n, is_exp = self.random.choice(self.levels), self.n(), self.random.random() < 0.4
        size = n * width // 8
        target, base, out = self.buffer(size), None if is_exp else self.buffer(size), self.buffer(size)
        coder = self.coder(width, mantissa, is_exp)
        bins = (1 << (width - 1 - mantissa)) * (1 if base is None else 4 * width)
        itemsize = self.number(1, 2, 3, 4, 8, 16)
        self.call("count", self.codec.count, level, width, mantissa, target, base, self.buffer(4 * bins))
        planes = [self.buffer(n * max(0, min(itemsize, 99))) for _ in range(3)]
        self.call("planes", self.codec.planes, level, itemsize, self.random.random() < 0.5, *planes)
        n_tables, n_tokens = self.number(1, 2, 17), self.number(64, 128)
        freqs = self.frequencies(max(1, min(n_tables, 17)), 64 if n_tokens == 64 else 128)
        bits = self.call("write_tables", self.codec.write_tables, freqs, n_tables, n_tokens)
        self.call("read_tables", self.codec.read_tables, bits or self.buffer(80), n_tables, n_tokens)
        if coder is None:
            return
        payload = self.call("encode", coder.encode, level, self.number(1, 2, 4, 16), target, base)
        if payload is None:
            payload = self.buffer(self.n())
        payload = bytearray(payload)
        if payload and self.random.random() < 0.5:
            payload[self.random.randrange(min(len(payload), 400))] ^= 1 << self.random.randrange(8)
        if payload and self.random.random() < 0.2:
            del payload[self.random.randrange(len(payload)) :]
        self.call("decode", coder.decode, level, payload, base, out)
        self.entry_calls(level, coder if self.random.random() < 0.7 else None)

    def entry_calls(self, level: int, coder: Any) -> None:
        log2, raw = self.number(16, 17, 20), self.number(300, 65536, 65540, 150_000)
        n_chunks = max(1, -(-max(raw, 0) // (1 << log2))) if 0 <= log2 < 30 and raw < 1 << 24 else 1
        raw_entry = self.entry(None, None, log2, raw, n_chunks)
        base = raw_entry if self.random.random() < 0.5 else None
        entry = self.entry(coder, base, log2, raw, n_chunks) if coder is not None else raw_entry
        if entry is None:
            return
        links = self.number(1, 2)
        fds = tuple(self.file.fileno() for _ in range(max(0, min(links, 40))))
        first = self.number(0, 1)
        scratch = self.buffer(self.call("scratch_bytes", lambda: entry.scratch_bytes) or 0)
        out = self.buffer(self.number(raw % 1_000_000, 65536) % 1_000_000)
        self.call("read", entry.read, level, fds, first, out, scratch)
        with tempfile.TemporaryFile() as to:
            args = level, fds, first, self.number(1, n_chunks), to.fileno(), self.number(0, 4096), scratch
            self.call("copy", entry.copy, *args)

    def entry(self, coder: Any, base: Any, log2: int, raw: int, n_chunks: int) -> Any:
        if self.random.random() < 0.05:  # what belongs to the other extension, and what to neither
            coder, base = base, coder
        starts = struct.pack(f"<{n_chunks}q", *(self.number(0, 100, 60_000) for _ in range(n_chunks)))
        lengths = [min(abs(self.number(1 << log2 if 0 <= log2 < 27 else 0, raw)), (1 << 32) - 1)] * n_chunks
        table = b"".join(struct.pack("<IQ", length, self.random.getrandbits(64)) for length in lengths)
        return self.call("Entry", self.objects.Entry, coder, base, log2, raw, starts, table)

    def tensors_call(self) -> None:
        level, n = self.random.choice(self.other_levels), self.n()
        sizes = (8, 4, 2, 2, 1, 1)
        dtypes = [self.number(*range(6)) for _ in range(3)]
        size = [sizes[d] if 0 <= d < 6 else 2 for d in dtypes]
        one, d = self.tensors, dtypes[0]
        self.call("widen", one.widen, level, d, self.buffer(n * size[0]), self.buffer(8 * n))
        self.call("round", one.round, level, d, self.buffer(8 * n), self.buffer(n * size[0]))
        self.call(
            "tensors.count", one.count, level, size[0], self.buffer(n * size[0]), self.buffer(n * size[0])
        )
        same = [self.buffer(n * size[0]) for _ in range(2)]
        self.call("difference", one.difference, level, d, *same)
        self.call("pair", one.pair, level, d, *same)
        three = [x for dtype, s in zip(dtypes, size, strict=True) for x in (dtype, self.buffer(n * s))]
        self.call("geometry", one.geometry, level, *three)
        inputs = tuple(self.buffer(self.random.choice((n, n // 2, 0)) * s) for s in size)
        known = bytes(x % 256 for x in dtypes)
        self.call("linear", one.linear, level, self.program(), known, inputs, d, self.buffer(n * size[0]))

    def program(self) -> bytes:
        tokens = [(0, 0, 0.0), (0, 1, 0.0), (2, 0, 0.0), (3, 0, 0.7), (0, 2, 0.0), (1, 0, 0.0), (4, 0, 3.0)]
        if self.random.random() < 0.3:
            tokens[self.random.randrange(7)] = (self.number(*range(5)), self.number(0, 1, 2), 1.5)
        if self.random.random() < 0.1:
            tokens = tokens[: self.random.randrange(8)] * self.random.choice((1, 2, 300))
        return b"".join(struct.pack("<iid", op % (1 << 31), i % (1 << 31), x) for op, i, x in tokens)


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Iterator[_Caller]:
    found = _Caller(request.param)
    yield found
    found.file.close()


@pytest.mark.skipif(
    codec.kernels() is None or tensors.kernels() is None or nativeentry._extension is None,
    reason="no extension modules",
)
@pytest.mark.parametrize("caller", [1, 2], indirect=True)
def test_any_call_gives_a_result_or_an_error(caller: _Caller) -> None:
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        # Else the sanitizers would watch extensions that were built without them.
        for module in (caller.codec, caller.objects, caller.tensors):
            assert Path(__file__).parents[2] not in Path(module.__file__ or "").parents
    for _ in range(ROUNDS):
        caller.codec_call()
        caller.tensors_call()
    # What never succeeds was not tested.
    assert set(caller.done) >= {
        *(
            "Coder",
            "open_coder",
            "tune",
            "count",
            "planes",
            "write_tables",
            "read_tables",
            "encode",
            "decode",
        ),
        *("Entry", "scratch_bytes", "read", "copy"),
        *("widen", "round", "tensors.count", "difference", "pair", "geometry", "linear"),
    }, caller.done

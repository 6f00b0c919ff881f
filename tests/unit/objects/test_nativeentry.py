"""Chunks read natively are those that the decoders give, and whatever is wrong stops the call before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from deltavcs.codec import CodecId, make_encoder, native_info, open_decoder
from deltavcs.codec import codec_kernels as kernels
from deltavcs.objects import nativeentry
from deltavcs.objects.nativeentry import NativeEntry, open_entry
from deltavcs.objects.pack import CHUNK

pytestmark = pytest.mark.skipif(
    kernels.kernels() is None or nativeentry._extension is None, reason="the extensions were not built"
)

LOG2 = 16
WHOLE = 1 << LOG2
NATIVE_LEVELS = kernels.levels()[1:]


@pytest.fixture(autouse=True)
def best_level() -> Iterator[None]:
    best = native_info().level
    yield
    kernels.set_level(best)


@dataclass
class Written:
    """An entry in a file of its own, and what it holds."""

    path: Path
    entry: NativeEntry
    chunks: np.ndarray
    starts: np.ndarray
    data: bytes
    fds: tuple[int, ...]

    def read(self, first: int, n_bytes: int, scratch: int | None = None) -> tuple[int, bytes]:
        out = bytearray(n_bytes)
        size = self.entry.scratch_bytes if scratch is None else scratch
        run = self.entry.read(self.fds, first, memoryview(out), memoryview(bytearray(size)))
        return run.chunks, bytes(out)

    def copy(self, first: int, count: int, to: int, at: int) -> int:
        scratch = memoryview(bytearray(self.entry.scratch_bytes))
        return self.entry.copy(self.fds, first, count, to, at, scratch).chunks


class Files:
    """Writes entries, and keeps their files open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: list[int] = []

    def write(self, which: CodecId, dtype: str, data: bytes, base: Written | None = None) -> Written:
        parts = [data[at : at + WHOLE] for at in range(0, len(data), WHOLE)]
        below = [None if base is None else base.data[at : at + WHOLE] for at in range(0, len(data), WHOLE)]
        encoder = make_encoder(which, dtype, list(zip(parts, below, strict=True)))
        payloads = [encoder.encode(*pair) for pair in zip(parts, below, strict=True)]
        chunks = np.zeros(len(parts), CHUNK)
        chunks["length"] = [len(x) for x in payloads]
        chunks["xxh3"] = [xxhash.xxh3_64_intdigest(x) for x in parts]
        starts = 7 + np.cumsum(chunks["length"], dtype=np.int64) - chunks["length"]
        path = self.folder / str(len(self.open))
        path.write_bytes(b"before " + b"".join(payloads) + b"after")
        self.open.append(os.open(path, os.O_RDONLY))
        entry = open_entry(
            open_decoder(which, dtype, encoder.side),
            base.entry if base is not None else None,
            chunk_log2=LOG2,
            raw_bytes=len(data),
            starts=starts,
            chunks=chunks,
        )
        assert entry is not None
        fds = (self.open[-1], *(base.fds if base is not None else ()))
        assert entry.links == len(fds)
        return Written(path, entry, chunks, starts, data, fds)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    found = Files(tmp_path)
    yield found
    for fd in found.open:
        os.close(fd)


def weights(dtype: str, n_bytes: int, seed: int) -> bytes:
    values = np.random.default_rng(seed).normal(0, 0.02, n_bytes // 2)
    if dtype == "F32":
        return values.astype("<f4")[: n_bytes // 4].tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def tuned(data: bytes, dtype: str, seed: int) -> bytes:
    word = np.frombuffer(data, "<u4" if dtype == "F32" else "<u2")
    step = np.random.default_rng(seed).integers(-3, 4, word.size)
    return (word + step).astype(word.dtype).tobytes()


def chain(files: Files, dtype: str, n_bytes: int) -> Written:
    """A fine-tune of a fine-tune of a base."""
    base = files.write(CodecId.EXP, dtype, weights(dtype, n_bytes, 1))
    middle = files.write(CodecId.DELTA, dtype, tuned(base.data, dtype, 2), base)
    return files.write(CodecId.DELTA, dtype, tuned(middle.data, dtype, 3), middle)


@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("n_bytes", [4096, WHOLE - 4, WHOLE, WHOLE + 4096, 3 * WHOLE + 5000])
def test_a_chain_is_read_and_copied(
    files: Files, tmp_path: Path, level: str, dtype: str, n_bytes: int
) -> None:
    kernels.set_level(level)
    top = chain(files, dtype, n_bytes)
    n_chunks = len(top.chunks)
    assert top.read(0, n_bytes) == (n_chunks, top.data)
    if n_chunks > 1:
        assert top.read(1, n_bytes - WHOLE) == (n_chunks - 1, top.data[WHOLE:])
    out = tmp_path / "out"
    to = os.open(out, os.O_WRONLY | os.O_CREAT)
    assert top.copy(0, n_chunks, to, 3) == n_chunks
    os.close(to)
    assert out.read_bytes() == bytes(3) + top.data


@pytest.mark.parametrize("dtype", ["BF16", "U8"])
def test_raw_entries_are_read(files: Files, dtype: str) -> None:
    data = np.random.default_rng(4).integers(0, 256, 2 * WHOLE + 1000, np.uint8).tobytes()
    assert files.write(CodecId.RAW, dtype, data).read(0, len(data)) == (3, data)


def test_no_more_is_written_than_whole_chunks_that_fit(files: Files) -> None:
    top = chain(files, "BF16", 2 * WHOLE)
    done, out = top.read(0, 2 * WHOLE - 2)
    assert (done, out) == (1, top.data[:WHOLE] + bytes(WHOLE - 2))


@pytest.mark.parametrize(("n_bytes", "chunks"), [(240, 0), (241, 1), (WHOLE + 240, 1), (WHOLE + 241, 2)])
def test_chunks_too_short_for_the_checksum_are_left_to_the_decoder(
    files: Files, n_bytes: int, chunks: int
) -> None:
    written = files.write(CodecId.RAW, "U8", bytes(range(241)) * 300)
    short = files.write(CodecId.RAW, "U8", written.data[:n_bytes])
    assert short.read(0, n_bytes)[0] == chunks


def test_a_chunk_in_another_mode_is_left_to_the_decoder(files: Files) -> None:
    noise = np.random.default_rng(5).integers(0, 1 << 16, WHOLE // 2, np.uint16).tobytes()
    good = weights("BF16", 4 * WHOLE, 6)
    written = files.write(CodecId.EXP, "BF16", good + noise + good)
    assert written.path.read_bytes()[int(written.starts[4])] != 0
    assert written.read(0, len(written.data))[0] == 4
    assert written.read(5, 4 * WHOLE) == (4, good)


def test_every_flipped_bit_stops_before_its_chunk(files: Files) -> None:
    top = chain(files, "BF16", 3 * WHOLE)
    random = np.random.default_rng(7)
    for link in (top, Written(files.folder / "0", *[None] * 4, ())):  # type: ignore[arg-type]
        sound = link.path.read_bytes()
        starts = top.starts if link is top else None
        for _ in range(60):
            at = int(random.integers(7, len(sound) - 5))
            damaged = bytearray(sound)
            damaged[at] ^= 1 << int(random.integers(8))
            link.path.write_bytes(damaged)
            done, out = top.read(0, 3 * WHOLE)
            assert done < 3
            assert out[: done * WHOLE] == top.data[: done * WHOLE]
            if starts is not None:
                assert done == int(np.searchsorted(starts, at, side="right")) - 1
        link.path.write_bytes(sound)
    assert top.read(0, 3 * WHOLE)[0] == 3


def test_a_wrong_checksum_stops(files: Files) -> None:
    written = files.write(CodecId.EXP, "BF16", weights("BF16", 2 * WHOLE, 8))
    written.chunks["xxh3"][1] ^= np.uint64(1 << 40)
    assert written.read(0, 2 * WHOLE)[0] == 1


def test_a_wrong_checksum_of_a_base_stops(files: Files) -> None:
    """Also where the chunk above it comes out right: what is accepted does not depend on the path."""
    base = files.write(CodecId.EXP, "BF16", weights("BF16", 2 * WHOLE, 14))
    top = files.write(CodecId.DELTA, "BF16", tuned(base.data, "BF16", 15), base)
    assert top.read(0, 2 * WHOLE)[0] == 2
    base.chunks["xxh3"][1] ^= np.uint64(1)
    assert top.read(0, 2 * WHOLE)[0] == 1


def test_scratch_grows_neither_with_depth_nor_with_the_declared_chunk(files: Files) -> None:
    top = files.write(CodecId.EXP, "BF16", weights("BF16", 4096, 16))
    sizes = []
    for depth in range(1, 12):
        top = files.write(CodecId.DELTA, "BF16", tuned(top.data, "BF16", depth), top)
        sizes.append(top.entry.scratch_bytes)
        assert top.read(0, 4096) == (1, top.data)
    # The chunk itself, two of bases, a payload.
    assert max(sizes) <= 4 * 4096


def test_a_truncated_file_stops(files: Files) -> None:
    written = files.write(CodecId.EXP, "BF16", weights("BF16", 3 * WHOLE, 9))
    os.truncate(written.path, int(written.starts[2]) + 10)
    assert written.read(0, 3 * WHOLE)[0] == 2


def test_a_full_disk_stops(files: Files) -> None:
    written = files.write(CodecId.EXP, "BF16", weights("BF16", 2 * WHOLE, 10))
    with Path("/dev/full").open("wb", buffering=0) as full:
        assert written.copy(0, 2, full.fileno(), 0) == 0


def test_threads_write_to_one_file_and_to_files_that_share_a_turn(files: Files, tmp_path: Path) -> None:
    """Turns are by descriptor modulo 64; whoever waits for whom, every byte comes to its place."""
    top = chain(files, "BF16", 6 * WHOLE)
    one = os.open(tmp_path / "one", os.O_RDWR | os.O_CREAT)
    two = os.open(tmp_path / "two", os.O_RDWR | os.O_CREAT)
    os.dup2(two, one + 64)
    os.close(two)
    jobs = [(to, at) for _ in range(20) for at in range(6) for to in (one, one + 64)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda job: top.copy(job[1], 1, job[0], job[1] * WHOLE), jobs))
    os.close(one)
    os.close(one + 64)
    assert done == [1] * len(jobs)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == top.data


def test_numpy_reads_nothing_natively(files: Files) -> None:
    written = files.write(CodecId.EXP, "BF16", weights("BF16", WHOLE, 11))
    kernels.set_level("numpy")
    assert written.read(0, WHOLE)[0] == 0
    assert written.copy(0, 1, 1, 0) == 0


def test_without_the_extension_the_decoders_do_the_work(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = files.write(CodecId.RAW, "U8", bytes(WHOLE))
    whole = {
        "chunk_log2": LOG2,
        "raw_bytes": WHOLE,
        "starts": written.starts,
        "chunks": written.chunks,
    }
    assert open_entry(open_decoder(CodecId.RAW, "U8", b""), None, **whole) is not None
    monkeypatch.setattr(nativeentry, "_extension", None)
    assert open_entry(open_decoder(CodecId.RAW, "U8", b""), None, **whole) is None


def test_calls_that_do_not_fit_are_refused(files: Files) -> None:
    top = chain(files, "BF16", WHOLE)
    entry, scratch = top.entry, memoryview(bytearray(top.entry.scratch_bytes))
    out = memoryview(bytearray(WHOLE))
    for fds in (top.fds[:1], (*top.fds, 1), (top.fds[0], -1, top.fds[2]), (top.fds[0], 1 << 40, 1)):
        with pytest.raises((ValueError, OverflowError)):
            entry.read(fds, 0, out, scratch)
    for first in (-1, 2):
        with pytest.raises(ValueError, match="fit"):
            entry.read(top.fds, first, out, scratch)
    with pytest.raises(ValueError, match="fit"):
        top.read(0, WHOLE, scratch=16)
    for first, count, at in ((0, 2, 0), (1, 1, 0), (0, -1, 0), (-1, 1, 0), (0, 1, -1)):
        with pytest.raises(ValueError, match="fit"):
            entry.copy(top.fds, first, count, 1, at, scratch)
    with pytest.raises(ValueError, match="fit"):
        entry.copy(top.fds, 0, 1, 1, 0, scratch[: WHOLE - 1])
    with pytest.raises(ValueError, match="fit"):
        entry.copy(top.fds, 0, 1, -1, 0, scratch)


def test_entries_whose_parts_do_not_fit_are_not_made(files: Files) -> None:
    base = files.write(CodecId.EXP, "BF16", weights("BF16", WHOLE, 12))
    other = files.write(CodecId.EXP, "BF16", weights("BF16", WHOLE - 2, 12))
    top = files.write(CodecId.DELTA, "BF16", tuned(base.data, "BF16", 13), base)
    decoder = open_decoder(
        CodecId.DELTA, "BF16", make_encoder(CodecId.DELTA, "BF16", [(top.data, base.data)]).side
    )
    whole = {"chunk_log2": LOG2, "raw_bytes": WHOLE, "starts": top.starts, "chunks": top.chunks}
    assert open_entry(decoder, base.entry, **whole) is not None
    for change in (
        {"chunk_log2": 15},
        {"chunk_log2": 27},
        {"raw_bytes": WHOLE + 1},
        {"raw_bytes": WHOLE - 1},
        {"raw_bytes": 0},
        {"starts": top.starts[:0]},
        {"starts": top.starts - 100},
        {"chunks": top.chunks[:0]},
        {"chunks": np.concatenate([top.chunks] * 2)},
    ):
        assert open_entry(decoder, base.entry, **(whole | change)) is None
    assert open_entry(decoder, None, **whole) is None
    assert open_entry(decoder, other.entry, **whole) is None
    plain = make_encoder(CodecId.PLAIN, "BF16", [(base.data, None)])
    assert open_entry(open_decoder(CodecId.PLAIN, "BF16", plain.side), None, **whole) is None


@settings(max_examples=60, deadline=None)
@given(n=st.integers(241, 5000), seed=st.integers(0, 1 << 32), level=st.sampled_from(NATIVE_LEVELS))
def test_the_checksum_is_xxh3(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, level: str
) -> None:
    """A raw entry is accepted exactly if the native checksum is that of the library."""
    kernels.set_level(level)
    data = np.random.default_rng(seed).integers(0, 256, n, np.uint8).tobytes()
    files = Files(tmp_path_factory.mktemp("raw"))
    assert files.write(CodecId.RAW, "U8", data).read(0, n) == (1, data)
    os.close(files.open[0])

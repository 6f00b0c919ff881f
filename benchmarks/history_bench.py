"""History at scale: makes repositories of synthetic commits and times what reads them, in one process.

    python -m benchmarks.history_bench [--commits 1000 100000] [--tensors 12] [--keep DIR] [--json FILE]

The shape: runs of 500 checkpoints, each with `previous` and `base` parents, stats and a pack of its own;
every tenth run starts from a transfer. The payloads of the packs are holes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deltavcs.history.walk import walk
from deltavcs.index import LineageIndex
from deltavcs.index import queries as q
from deltavcs.index.statement import query
from deltavcs.objects import pack as p
from deltavcs.objects.model import (
    Commit,
    FileEntry,
    Kind,
    Manifest,
    Parent,
    Score,
    Stats,
    TensorEntry,
    TensorStats,
)
from deltavcs.objects.packindex import encode_index, make_records
from deltavcs.objects.small import frame_object, object_key
from deltavcs.objects.store import ObjectStore
from deltavcs.oid import BlobId
from deltavcs.refs import RefStore
from deltavcs.storage import LocalStorage

RUN = 500


class Maker:
    """Writes a synthetic repository, past the checks and syncs of the real writer."""

    def __init__(self, root: Path, n_tensors: int) -> None:
        self.storage = LocalStorage(root, sync=False)
        self.root = root
        self.n_tensors = n_tensors
        self.n = 0
        self.chunks = np.array([(200_000, 1), (200_000, 2)], p.CHUNK)
        self.config = self.blob()
        for folder in ("packs", "refs/heads", "refs/scores", *(f"objects/{i:02x}" for i in range(256))):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def blob(self) -> str:
        self.n += 1
        return hashlib.blake2s(b"%d" % self.n).hexdigest()

    def put(self, domain: str, value) -> str:
        oid, data = frame_object(domain, value.encode())
        (self.root / object_key(oid)).write_bytes(data)
        return oid

    def ref(self, name: str, target: str) -> None:
        (self.root / name).write_text(target + "\n")

    def commit(self, parents: list[tuple[str, str]], kind: Kind, message: str) -> str:
        blobs = [self.blob() for _ in range(self.n_tensors)]
        entries = {
            f"model.layers.{i // 6}.block.{i % 6}.weight": TensorEntry(b, "BF16", (1024, 1024))
            for i, b in enumerate(blobs)
        }
        size = 1000 + 2 * 1024 * 1024 * self.n_tensors
        files = (
            FileEntry("config.json", 700, self.config),
            FileEntry("model.safetensors", size, self.config, tuple(entries)),
        )
        stats = None
        if parents:
            numbers = {name: TensorStats(300_000 + i, 1 << 20, 1.5 + i) for i, name in enumerate(entries)}
            stats = self.put("stats", Stats(parents[0][0], numbers))
        self.pack(blobs)
        manifest = self.put("manifest", Manifest(files, entries))
        return self.put(
            "commit",
            Commit(
                kind, manifest, tuple(Parent(*p) for p in parents), message, "bench",
                1_700_000_000_000_000 + self.n, stats=stats, task="piqa", metadata={"lr": "1e-5"},
            ),
        )  # fmt: skip

    def pack(self, blobs: list[str]) -> None:
        """A pack whose payloads are holes: everything about it is right but what nobody reads here."""
        heads, pack = [], self.blob()
        with (self.root / f"packs/{pack}.pack").open("wb") as file:
            file.write(p.PACK_HEADER)
            for blob in blobs:
                prefix = p.encode_prefix(
                    blob=BlobId(blob),
                    base=None,
                    codec=1,
                    chunk_log2=20,
                    raw_bytes=2 << 20,
                    domain="tensor BF16 [1024,1024]",
                    side=b"",
                    chunks=self.chunks,
                )
                head = p.decode_head(prefix)
                heads.append((file.tell(), head))
                file.write(prefix)
                file.seek(head.payload_bytes, 1)
            size = file.tell() + p.TRAILER_BYTES
            file.write(p.encode_trailer(len(blobs), size))
        (self.root / f"packs/{pack}.idx").write_bytes(encode_index(make_records(heads), size))

    def history(self, n_commits: int) -> None:
        base = self.commit([], Kind.BASE, "llama3.0")
        newer = self.commit([], Kind.BASE, "llama3.1")
        self.ref("refs/heads/llama3.0", base)
        self.ref("refs/heads/llama3.1", newer)
        made, run, previous = 2, 0, base
        while made < n_commits:
            tip = None
            if run % 10 == 9:
                tip = self.commit(
                    [(newer, "base"), (previous, "delta"), (base, "source")], Kind.TRANSFER, "t"
                )
                made += 1
            for step in range(min(RUN, n_commits - made)):
                parents = [(base, "base"), *([(tip, "previous")] if tip else [])]
                tip = self.commit(parents, Kind.FINETUNE, f"run {run} step {step}")
            made += min(RUN, n_commits - made)
            self.ref(f"refs/heads/run{run}", tip)
            self.score(tip, run)
            previous, run = tip, run + 1

    def score(self, commit: str, run: int) -> None:
        manifest = ObjectStore(self.storage).get_commit(commit).manifest
        score = Score(commit, manifest, "piqa", self.config, "train", 256, 0, 1, 2.0 + run / 1000, 0.5)
        self.ref(f"refs/scores/{self.blob()}", self.put("score", score))


def timed(fn: Callable[[], object], repeat: int = 5) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


SQL_LINEAGE = """SELECT l.names, l.message, e.role, e.parent_names
FROM log l JOIN lineage e ON e.child = l.commit WHERE l.names = 'run0'"""
SQL_COMMIT = """SELECT l.names, t.name, t.l2, t.codec FROM log l JOIN tensors t USING (commit)
WHERE commit = ? ORDER BY t.l2 DESC"""
SQL_NAME = """SELECT l.names, t.name, t.l2, t.changed_share, s.loss FROM log l JOIN tensors t USING (commit)
JOIN scoreboard s USING (commit) WHERE l.names = 'run0' ORDER BY t.l2 DESC"""


def measure(root: Path) -> dict[str, float]:
    storage = LocalStorage(root, sync=False)

    def fresh() -> LineageIndex:
        return LineageIndex(storage, ObjectStore(storage), RefStore(storage))

    out = {"rebuild": timed(lambda: fresh().rebuild(), 1)}
    index, objects, refs = fresh(), ObjectStore(storage), RefStore(storage)
    base, tip = refs.get("refs/heads/llama3.0"), refs.get("refs/heads/run0")
    log = "SELECT * FROM log ORDER BY time DESC LIMIT 20"
    out["catch-up, nothing new"] = timed(fresh().catch_up)
    out["log -n 20 (view)"] = timed(lambda: query(index, log))
    out["log -n 20 (objects)"] = timed(lambda: first_commits(objects, refs, 20))
    out["lineage --up (objects)"] = timed(lambda: list(walk(objects, [tip])))
    out["lineage --down of a run's first"] = timed(lambda: q.descendants(index, first_of_run(index)))
    out["lineage --down of the base, all"] = timed(lambda: q.descendants(index, base), 3)
    out["lineage --down of the base, 1000"] = timed(lambda: q.descendants(index, base, limit=1000), 3)
    out["SQL join, log and lineage"] = timed(lambda: query(index, SQL_LINEAGE))
    out["SQL join, tensors of a commit"] = timed(lambda: query(index, SQL_COMMIT, [tip]))
    out["SQL join, tensors by a name"] = timed(lambda: query(index, SQL_NAME))
    out["du of one commit"] = timed(lambda: q.disk_usage(index, [tip]))
    out["du of all"] = timed(lambda: query(index, "SELECT count(*), sum(unique_bytes) FROM disk_usage"), 1)
    return {**out, **measure_commit(root, fresh), "index MB": index.path.stat().st_size / 1e6}


def measure_commit(root: Path, fresh: Callable[[], LineageIndex]) -> dict[str, float]:
    maker = Maker(root, 12)
    maker.n = time.time_ns()
    base = RefStore(maker.storage).get("refs/heads/llama3.0")
    maker.ref("refs/heads/extra", maker.commit([(base, "base")], Kind.FINETUNE, "one more"))
    index = fresh()
    added = timed(index.catch_up, 1)
    (root / "refs/heads/extra").unlink()
    return {"catch-up, one commit": added, "catch-up, one branch deleted": timed(index.catch_up, 1)}


def first_of_run(index: LineageIndex) -> str:
    sql = "SELECT commit FROM log WHERE message = 'run 0 step 0'"
    return query(index, sql).rows[0][0]


def first_commits(objects: ObjectStore, refs: RefStore, n: int) -> list:
    walker = walk(objects, refs.all("refs/heads").values())
    return [next(walker) for _ in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--tensors", type=int, default=12)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for n in args.commits:
            root = (args.keep or Path(scratch)) / str(n)
            if not root.exists():
                start = time.perf_counter()
                Maker(root, args.tensors).history(n)
                print(f"made {n} commits in {time.perf_counter() - start:.1f} s", flush=True)
            results[n] = measure(root)
            print(n, {k: round(v, 4) for k, v in results[n].items()}, flush=True)
    report(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def report(results: dict[int, dict[str, float]]) -> None:
    small, large = min(results), max(results)
    print(f"\n| | {small:,} commits | {large:,} commits | ratio |\n|---|---|---|---|")
    for name, value in results[small].items():
        other = results[large][name]
        show = (lambda x: f"{x:.1f}") if "MB" in name else (lambda x: f"{1000 * x:.1f} ms")
        print(f"| {name} | {show(value)} | {show(other)} | {other / value:.1f} |")


if __name__ == "__main__":
    main()

"""A repository in memory, as far as the index can see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from deltavcs.codec.api import DERIVED, CodecId
from deltavcs.errors import ErrorKind, IntegrityError
from deltavcs.index import LineageIndex
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
from deltavcs.objects.packindex import RECORD
from deltavcs.oid import hash_bytes
from deltavcs.resources import Resources
from deltavcs.storage import LocalStorage

CODECS = (CodecId.PLAIN, CodecId.XOR, CodecId.EXP, CodecId.DELTA, DERIVED, CodecId.RAW)


def oid(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


class FakePacks(dict):
    """Index records by pack."""

    def ids(self):
        return frozenset(self)

    def records(self, id_):
        return self[id_]


@dataclass
class FakeObjects:
    commits: dict = field(default_factory=dict)
    manifests: dict = field(default_factory=dict)
    stats: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)
    packs: FakePacks = field(default_factory=FakePacks)

    def put(self, kind: str, value) -> str:
        id_ = hash_bytes(kind, value.encode())
        getattr(self, kind if kind == "stats" else kind + "s")[id_] = value
        return id_

    def get_commit(self, id_):
        return self._get(self.commits, id_)

    def get_manifest(self, id_):
        return self._get(self.manifests, id_)

    def get_stats(self, id_):
        return self._get(self.stats, id_)

    def get_score(self, id_):
        return self._get(self.scores, id_)

    def _get(self, where, id_):
        if id_ not in where:
            raise IntegrityError(f"{id_} is missing", kind=ErrorKind.MISSING_OBJECT)
        return where[id_]


@dataclass
class FakeRefs:
    refs: dict = field(default_factory=dict)

    def all(self):
        return dict(self.refs)


class FakeRepository:
    """Makes commits whose content is a number; equal numbers share a manifest."""

    def __init__(self) -> None:
        self.objects = FakeObjects()
        self.refs = FakeRefs()
        self.n_packs = 0

    def index(self, root, **options) -> LineageIndex:
        storage = options.pop("storage", None) or LocalStorage(root, sync=False)
        return LineageIndex(storage, self.objects, self.refs, resources=Resources(threads=2), **options)

    def commit(self, content: int = 0, parents=(), *, branch=None, time=0, base=None, pack=True, **fields):
        blobs = {f"w{i}": oid(f"blob {content} {i}") for i in range(2)} | {"shared": oid("shared")}
        header = oid("header")
        manifest = Manifest(
            files=(
                FileEntry("config.json", 10, oid("config"), None),
                FileEntry("model.safetensors", 100 + 3 * 16, header, tuple(blobs)),
            ),
            tensors={name: TensorEntry(blob, "F32", (2, 2)) for name, blob in blobs.items()},
        )
        stats = None
        if base is not None:
            numbers = {"w0": TensorStats(3, 4, 1.5), "w1": TensorStats(0, 4, None)}
            stats = self.objects.put("stats", Stats(base, numbers))
        id_ = self.objects.put(
            "commit",
            Commit(
                kind=fields.pop("kind", Kind.FINETUNE if parents else Kind.BASE),
                manifest=self.objects.put("manifest", manifest),
                parents=tuple(Parent(*p) for p in parents),
                time=time,
                stats=stats,
                **fields,
            ),
        )
        if pack:
            self.pack([*blobs.values(), oid("config"), header])
        if branch is not None:
            self.refs.refs[f"refs/heads/{branch}"] = id_
        return id_

    def pack(self, blobs, entry_bytes: int | None = None) -> str:
        self.n_packs += 1
        records = np.zeros(len(set(blobs)), dtype=RECORD)
        for i, blob in enumerate(sorted(set(blobs))):
            records[i]["blob"] = bytes.fromhex(blob)
            records[i]["raw_bytes"] = 16
            records[i]["entry_bytes"] = entry_bytes or 8
            records[i]["codec"] = codec = CODECS[i % len(CODECS)]
            if codec in (CodecId.XOR, CodecId.DELTA):
                records[i]["base"] = bytes.fromhex(oid("a base"))
        id_ = oid(f"pack {self.n_packs}")
        self.objects.packs[id_] = records
        return id_

    def score(self, commit, task="piqa", loss=1.0, accuracy=None):
        score = Score(
            commit,
            self.objects.commits[commit].manifest,
            task,
            oid(task),
            "train",
            256,
            0,
            1,
            loss,
            accuracy,
        )
        id_ = self.objects.put("score", score)
        self.refs.refs[f"refs/scores/{oid((commit, task))}"] = id_
        return id_


def dump(index: LineageIndex) -> dict[str, list]:
    """Every row of every table, in an order of its own."""

    def read(connection):
        tables = [r[0] for r in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {t: sorted(connection.execute(f'FROM "{t}"').fetchall(), key=repr) for t in tables}

    return index.read(read)

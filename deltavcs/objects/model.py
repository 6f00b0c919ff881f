"""The small objects: manifest, commit, stats, score (spec §3). Immutable values with one encoding each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deltavcs.canonical import decode_json, encode_json
from deltavcs.objects import fields as f
from deltavcs.objects.paths import check_path, check_paths
from deltavcs.oid import BlobId, CommitId, ManifestId
from deltavcs.tensors.dtypes import n_bytes

MAX_ENTRIES = 1_000_000
MAX_PARENTS = 1_024
_ROLE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


class Kind(StrEnum):
    """What a commit holds."""

    BASE = "base"
    FINETUNE = "finetune"
    ADAPTER = "adapter"
    TRANSFER = "transfer"
    MERGE = "merge"


class Role(StrEnum):
    """The roles of a parent that have a meaning; others are free text."""

    BASE = "base"
    PREVIOUS = "previous"
    DELTA = "delta"
    SOURCE = "source"
    INPUT = "input"
    INIT = "init"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a manifest: which blob, and how to read its bytes."""

    blob: BlobId
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the packed tensor."""
        return n_bytes(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a manifest.

    Attributes:
        path: relative, `/`-separated.
        size: bytes of the whole file.
        blob: the file's blob; for a safetensors file the blob of its length and header bytes.
        tensors: keys of the tensors that follow the header, in file order; None for a plain file.
    """

    path: str
    size: int
    blob: BlobId
    tensors: tuple[str, ...] | None = None
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """Names to blobs, plus what is needed to write the files back byte for byte."""

    files: tuple[FileEntry, ...]
    tensors: Mapping[str, TensorEntry]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return encode_json(
            {
                "files": [_file_json(x) for x in self.files],
                "tensors": {
                    name: {"blob": t.blob, "dtype": t.dtype, "shape": list(t.shape)}
                    for name, t in self.tensors.items()
                },
            }
        )

    @property
    def primary(self) -> dict[str, TensorEntry]:
        """The tensors of the checkpoint itself, without those of other safetensors files beside it."""
        return {name: t for name, t in self.tensors.items() if "::" not in name}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(x.size for x in self.files)


def decode_manifest(data: bytes) -> Manifest:
    """Parse an untrusted manifest.

    Raises:
        FormatError: a field is missing, of the wrong type or over its limit, a path is unsafe, or a
            file's size disagrees with its tensors.
    """
    top = f.exact_keys(decode_json(data), frozenset({"files", "tensors"}), "manifest")
    tensors = {
        f.text(name, "tensor name"): _tensor(value)
        for name, value in f.mapping(top["tensors"], "tensors", limit=MAX_ENTRIES).items()
    }
    files = tuple(_file(value, tensors) for value in f.items(top["files"], "files", limit=MAX_ENTRIES))
    check_paths([x.path for x in files])
    return Manifest(files, tensors)


def _tensor(value: object) -> TensorEntry:
    raw = f.exact_keys(value, frozenset({"blob", "dtype", "shape"}), "tensor")
    shape = tuple(f.integer(d, "dimension", high=2**48) for d in f.items(raw["shape"], "shape", limit=64))
    entry = TensorEntry(BlobId(f.oid(raw["blob"])), f.text(raw["dtype"], "dtype", max_bytes=32), shape)
    if entry.size > 2**48:
        f.bad("a tensor is larger than 2^48 bytes")
    return entry


def _file_json(x: FileEntry) -> dict[str, object]:
    out: dict[str, object] = {"path": x.path, "size": x.size, "executable": x.executable}
    if x.tensors is None:
        return {**out, "blob": x.blob}
    return {**out, "header": x.blob, "tensors": list(x.tensors)}


def _file(value: object, tensors: Mapping[str, TensorEntry]) -> FileEntry:
    plain = isinstance(value, dict) and "blob" in value
    keys = {"path", "size", "executable"} | ({"blob"} if plain else {"header", "tensors"})
    raw = f.exact_keys(value, frozenset(keys), "file")
    names = None
    size = f.integer(raw["size"], "size")
    if not plain:
        names = tuple(f.text(n, "tensor name") for n in f.items(raw["tensors"], "tensors", limit=MAX_ENTRIES))
        missing = [n for n in names if n not in tensors]
        if missing:
            f.bad(f"file lists an unknown tensor {missing[0]!r}")
        if sum(tensors[n].size for n in names) > size:
            f.bad("file is smaller than its tensors")
    return FileEntry(
        path=check_path(f.text(raw["path"], "path")),
        size=size,
        blob=BlobId(f.oid(raw["blob" if plain else "header"])),
        tensors=names,
        executable=f.boolean(raw["executable"], "executable"),
    )


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent of a commit and the part it played."""

    commit: CommitId
    role: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One point of history (spec §3.2). `time` is microseconds since 1970-01-01 UTC."""

    kind: Kind
    manifest: ManifestId
    parents: tuple[Parent, ...] = ()
    message: str = ""
    author: str = ""
    time: int = 0
    task: str | None = None
    recipe: str | None = None
    stats: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return encode_json(
            {
                "author": self.author,
                "kind": str(self.kind),
                "manifest": self.manifest,
                "message": self.message,
                "metadata": dict(self.metadata),
                "parents": [{"commit": p.commit, "role": str(p.role)} for p in self.parents],
                "recipe": self.recipe,
                "source": dict(self.source),
                "stats": self.stats,
                "task": self.task,
                "time": self.time,
            }
        )

    def parents_as(self, role: str) -> tuple[CommitId, ...]:
        """Ids of the parents with `role`, in order."""
        return tuple(p.commit for p in self.parents if p.role == role)

    def parent_as(self, role: str) -> CommitId | None:
        """Id of the first parent with `role`."""
        return next((p.commit for p in self.parents if p.role == role), None)


_COMMIT_KEYS = frozenset(
    "author kind manifest message metadata parents recipe source stats task time".split()
)


def decode_commit(data: bytes) -> Commit:
    """Parse an untrusted commit.

    Raises:
        FormatError: a field is missing, of the wrong type or over its limit.
    """
    raw = f.exact_keys(decode_json(data), _COMMIT_KEYS, "commit")
    kind = f.text(raw["kind"], "kind", max_bytes=32)
    if kind not in set(Kind):
        f.bad(f"unknown commit kind {kind!r}")
    return Commit(
        kind=Kind(kind),
        manifest=ManifestId(f.oid(raw["manifest"])),
        parents=tuple(_parent(p) for p in f.items(raw["parents"], "parents", limit=MAX_PARENTS)),
        message=f.text(raw["message"], "message"),
        author=f.text(raw["author"], "author", max_bytes=1024),
        time=f.integer(raw["time"], "time", low=-(2**62)),
        task=f.optional_text(raw["task"], "task"),
        recipe=f.optional_text(raw["recipe"], "recipe"),
        stats=None if raw["stats"] is None else f.oid(raw["stats"]),
        metadata=f.text_map(raw["metadata"], "metadata"),
        source=f.mapping(raw["source"], "source", limit=10_000),
    )


def _parent(value: object) -> Parent:
    raw = f.exact_keys(value, frozenset({"commit", "role"}), "parent")
    return Parent(CommitId(f.oid(raw["commit"])), check_role(raw["role"]))


def check_role(value: object) -> str:
    """Return `value` if it is a role's name.

    Raises:
        FormatError: `bad-object` otherwise.
    """
    if not isinstance(value, str) or not _ROLE.match(value):
        f.bad(f"not a role: {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class TensorStats:
    """How one tensor differs from its counterpart: elements that differ, of how many, and the L2 norm."""

    changed: int
    elements: int
    l2: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How a commit differs from its base, tensor by tensor (spec §3.3)."""

    base: CommitId
    tensors: Mapping[str, TensorStats]

    @property
    def changed_share(self) -> float | None:
        """Share of all elements that differ in any bit; None if nothing was compared."""
        elements = sum(s.elements for s in self.tensors.values())
        return sum(s.changed for s in self.tensors.values()) / elements if elements else None

    @property
    def l2(self) -> float:
        """Norm of the whole difference, over the tensors that have one."""
        return math.sqrt(sum(s.l2**2 for s in self.tensors.values() if s.l2 is not None))

    def encode(self) -> bytes:
        """Canonical JSON."""
        return encode_json(
            {
                "base": self.base,
                "tensors": {
                    name: {"changed": s.changed, "elements": s.elements, "l2": s.l2}
                    for name, s in self.tensors.items()
                },
            }
        )


def decode_stats(data: bytes) -> Stats:
    """Parse an untrusted stats object. Raises FormatError as the others do."""
    raw = f.exact_keys(decode_json(data), frozenset({"base", "tensors"}), "stats")
    tensors: dict[str, TensorStats] = {}
    for name, value in f.mapping(raw["tensors"], "tensors", limit=MAX_ENTRIES).items():
        one = f.exact_keys(value, frozenset({"changed", "elements", "l2"}), "tensor stats")
        tensors[name] = TensorStats(
            f.integer(one["changed"], "changed"),
            f.integer(one["elements"], "elements"),
            None if one["l2"] is None else f.number(one["l2"], "l2"),
        )
    return Stats(CommitId(f.oid(raw["base"])), tensors)


AUTO_DTYPE = "auto"
"""Dtype of a score: each parameter's own."""


@dataclass(frozen=True, slots=True)
class Score:
    """One evaluation result: commit × task → loss, accuracy (spec §3.4).

    Attributes:
        manifest: what was evaluated.
        base: manifest below it that took part, with weights or a tokenizer; None if it stands alone.
        dtype: of the parameters while they ran; `auto` for the checkpoint's own.
    """

    commit: CommitId
    manifest: ManifestId
    task: str
    task_fingerprint: str
    split: str
    samples: int
    seed: int
    evaluator: int
    loss: float
    accuracy: float | None = None
    base: ManifestId | None = None
    dtype: str = AUTO_DTYPE
    metadata: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return encode_json({**{k: getattr(self, k) for k in _SCORE_KEYS}, "metadata": dict(self.metadata)})


_SCORE_KEYS = frozenset(
    "accuracy base commit dtype evaluator loss manifest metadata samples seed split task"
    " task_fingerprint".split()
)


def decode_score(data: bytes) -> Score:
    """Parse an untrusted score. Raises FormatError as the others do."""
    raw = f.exact_keys(decode_json(data), _SCORE_KEYS, "score")
    return Score(
        commit=CommitId(f.oid(raw["commit"])),
        manifest=ManifestId(f.oid(raw["manifest"])),
        task=f.text(raw["task"], "task", max_bytes=1024),
        task_fingerprint=f.oid(raw["task_fingerprint"]),
        split=f.text(raw["split"], "split", max_bytes=1024),
        samples=f.integer(raw["samples"], "samples"),
        seed=f.integer(raw["seed"], "seed", low=-(2**62)),
        evaluator=f.integer(raw["evaluator"], "evaluator"),
        loss=f.number(raw["loss"], "loss"),
        accuracy=None if raw["accuracy"] is None else f.number(raw["accuracy"], "accuracy"),
        base=None if raw["base"] is None else ManifestId(f.oid(raw["base"])),
        dtype=f.text(raw["dtype"], "dtype", max_bytes=16),
        metadata=f.text_map(raw["metadata"], "metadata"),
    )

"""Objects as rows, one function per kind of object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from deltavcs.codec import codec_word
from deltavcs.index.changes import split_ref
from deltavcs.objects.model import Commit, Manifest, Score, Stats
from deltavcs.oid import CommitId, PackId

Row = tuple[Any, ...]
Rows = Iterator[tuple[str, Row]]

_MAX = 2**63 - 1
_NO_BASE = "0" * 64


def ref_row(ref: str, target: str) -> Row:
    """The row of a ref."""
    return (ref, *split_ref(ref), target)


def commit_rows(commit_id: CommitId, commit: Commit, generation: int) -> Rows:
    """Rows of one commit, its edges and its metadata."""
    yield "commits", (
        commit_id, str(commit.kind), commit.manifest, commit.stats, commit.task, commit.recipe,
        commit.author, commit.message, commit.time, generation,
    )  # fmt: skip
    for position, parent in enumerate(commit.parents):
        yield "edges", (commit_id, parent.commit, str(parent.role), position)
    for key, value in commit.metadata.items():
        yield "metadata", (commit_id, key, value)


def manifest_rows(manifest_id: str, manifest: Manifest) -> Rows:
    """Rows of one manifest, its tensors and its files."""
    n_parameters = 0
    for name, t in manifest.tensors.items():
        count = 1
        for dimension in t.shape:
            count *= dimension
        n_parameters += count
        shape = f"[{','.join(map(str, t.shape))}]"
        yield "manifest_tensors", (manifest_id, name, t.dtype, shape, t.size, t.blob)
    for file in manifest.files:
        n_tensors = None if file.tensors is None else len(file.tensors)
        yield "manifest_files", (manifest_id, file.path, file.size, file.blob, n_tensors, file.executable)
    # Sums of untrusted sizes may pass 64 bits; a single one cannot.
    sizes = (min(manifest.size, _MAX), len(manifest.files), len(manifest.tensors), min(n_parameters, _MAX))
    yield "manifests", (manifest_id, *sizes)


def stats_rows(stats_id: str, stats: Stats) -> Rows:
    """Rows of the stats of one commit."""
    for name, s in stats.tensors.items():
        yield "tensor_stats", (stats_id, stats.base, name, s.changed, s.elements, s.l2)


def score_rows(ref: str, score_id: str, s: Score) -> Rows:
    """The row of one score."""
    yield "scores", (
        ref, score_id, s.commit, s.manifest, s.task, s.task_fingerprint, s.split,
        s.samples, s.seed, s.evaluator, s.loss, s.accuracy, s.base, s.dtype,
    )  # fmt: skip


def pack_columns(pack_id: PackId, records: npt.NDArray[Any]) -> tuple[Row, list[list[Any]]]:
    """The row of a pack, and the columns of its blobs without `preferred`."""
    records = _once(records)
    raw, stored = (_signed(records[name]) for name in ("raw_bytes", "entry_bytes"))
    bases = [None if base == _NO_BASE else base for base in _hex(records["base"])]
    numbers = records["codec"].tolist()
    words = {number: codec_word(number) for number in set(numbers)}
    codecs = [words[number] for number in numbers]
    row = (pack_id, len(records), min(sum(stored), _MAX))
    return row, [_hex(records["blob"]), [pack_id] * len(records), codecs, bases, raw, stored]


def _once(records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Records sorted by blob, each blob once; an honest pack is so already."""
    keys = records["blob"]
    if len(keys) > 1 and bool((keys[1:] == keys[:-1]).any()):
        first = np.concatenate([[True], keys[1:] != keys[:-1]])
        records = records[first]
    return records


def _hex(ids: npt.NDArray[Any]) -> list[str]:
    text = ids.tobytes().hex()
    return [text[i : i + 64] for i in range(0, len(text), 64)]


def _signed(values: npt.NDArray[Any]) -> list[int]:
    out: list[int] = np.minimum(values, np.uint64(_MAX)).astype(np.int64).tolist()
    return out

"""Which token an id stands for, by a checkpoint's tokenizer files, and where those of two differ.

Embeddings meet row by row, so where two checkpoints gave an id to tokens of their own, the rows of these are
added up or averaged. Read are the files that say it in JSON or line by line (`tokenizer.json`, `vocab.json`,
`vocab.txt`, `added_tokens.json`, `tokenizer_config.json`); vocabularies in binary files say nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from deltavcs.checkpoint.layout import MAX_JSON_BYTES
from deltavcs.objects.model import FileEntry, Manifest
from deltavcs.objects.store import ObjectStore

# Later ones say more of the same ids.
_FILES = ("vocab.txt", "vocab.json", "tokenizer.json", "added_tokens.json", "tokenizer_config.json")
_SHOWN = 3


def other_tokens(objects: ObjectStore, models: Sequence[tuple[str, Manifest]]) -> tuple[str, ...]:
    """Where tokenizers give the same ids to other tokens: a text for each pair of models that do.

    Args:
        models: what to call each, and what it holds.
    """
    tables = _Tables(objects)
    pairs = combinations(models, 2)
    return tuple(text for a, b in pairs if (text := _differing(a, b, tables)) is not None)


def _differing(a: tuple[str, Manifest], b: tuple[str, Manifest], tables: _Tables) -> str | None:
    ours, theirs = tables.of(a[1]), tables.of(b[1])
    differing = [i for i in sorted(ours.keys() & theirs.keys()) if ours[i] != theirs[i]]
    if not differing:
        return None
    shown = ", ".join(f"{i} is {ours[i]!r:.40} and {theirs[i]!r:.40}" for i in differing[:_SHOWN])
    more = f", and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return f"{a[0]} and {b[0]} ({shown}{more})"


class _Tables:
    """Id → token of checkpoints; of the same files only once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[tuple[object, ...], Mapping[int, str]] = {}

    def of(self, manifest: Manifest) -> Mapping[int, str]:
        """The table of one checkpoint; empty if its files do not say."""
        held = {f.path: f for f in manifest.files if f.tensors is None and f.path in _FILES}
        files = [held[name] for name in _FILES if name in held and held[name].size <= MAX_JSON_BYTES]
        key = tuple((f.path, f.blob) for f in files)
        if key not in self._known:
            table: dict[int, str] = {}
            for file in files:
                table.update(self._read(file))
            self._known[key] = table
        return self._known[key]

    def _read(self, file: FileEntry) -> dict[int, str]:
        data = self._objects.blobs.read(file.blob, max_bytes=MAX_JSON_BYTES)
        if file.path == "vocab.txt":
            return dict(enumerate(data.decode("utf-8", "replace").splitlines()))
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return dict(_pairs(file.path, value)) if isinstance(value, dict) else {}


def _pairs(path: str, value: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Ids and tokens of a file, whatever else stands in it."""
    if path in ("vocab.json", "added_tokens.json"):
        yield from _by_token(value)
    elif path == "tokenizer_config.json":
        decoder = value.get("added_tokens_decoder")
        for number, token in decoder.items() if isinstance(decoder, dict) else ():
            if number.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str):
                yield int(number), token["content"]
    else:
        model = value.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        if isinstance(vocabulary, dict):
            yield from _by_token(vocabulary)
        elif isinstance(vocabulary, list):  # unigrams with their scores
            yield from ((i, one[0]) for i, one in enumerate(vocabulary) if isinstance(one, list) and one)
        added = value.get("added_tokens")
        for token in added if isinstance(added, list) else ():
            if isinstance(token, dict) and isinstance(token.get("id"), int):
                yield token["id"], str(token.get("content"))


def _by_token(table: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    yield from ((i, token) for token, i in table.items() if isinstance(i, int))

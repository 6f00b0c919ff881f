"""Which ids stand for other tokens in another checkpoint, by whatever files say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from architectures import word_tokenizer

from deltavcs.checkpoint.token_ids import other_tokens
from deltavcs.objects.model import FileEntry, Manifest


class _Files:
    """Stands for an object store whose blobs are the bytes themselves."""

    def __init__(self) -> None:
        self.blobs = self

    def read(self, blob: Any, *, max_bytes: int) -> bytes:
        assert len(blob) <= max_bytes
        return bytes(blob)


def _manifest(files: dict[str, Any]) -> Manifest:
    data = {k: v if isinstance(v, bytes) else json.dumps(v).encode() for k, v in files.items()}
    entries: Any = tuple(FileEntry(path, len(d), d) for path, d in data.items())
    return Manifest(files=entries, tensors={})


def _found(*models: dict[str, Any]) -> tuple[str, ...]:
    objects: Any = _Files()
    return other_tokens(objects, [("abc"[i], _manifest(files)) for i, files in enumerate(models)])


def _saved(folder: Any, *extra: str) -> dict[str, Any]:
    word_tokenizer(extra=extra).save_pretrained(folder)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_tokens_that_were_added_in_another_order(tmp_path):
    models = [_saved(tmp_path / "-".join(e), *e) for e in (("x", "y"), ("y", "x"), ("x",))]
    assert _found(*models) == (
        "a and b (60 is 'x' and 'y', 61 is 'y' and 'x')",
        "b and c (60 is 'y' and 'x')",
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"vocab.txt": b"x\ny\n"}, {"vocab.txt": b"x\nz\n"}),
        ({"vocab.json": {"x": 0, "y": 1}}, {"vocab.json": {"x": 0, "z": 1}}),
        ({"vocab.json": {"x": 0}, "added_tokens.json": {"y": 1}}, {"vocab.txt": b"x\nz\n"}),
        (
            {"vocab.json": {"y": 1}},
            {"tokenizer_config.json": {"added_tokens_decoder": {"1": {"content": "z"}}}},
        ),
        ({"tokenizer.json": {"model": {"vocab": [["x", -1], ["y", -2]]}}}, {"vocab.json": {"z": 1}}),
        (
            {"vocab.json": {"w": 1}, "tokenizer.json": {"added_tokens": [{"id": 1, "content": "y"}]}},
            {"vocab.json": {"z": 1}},
        ),
    ],
)
def test_files_that_say_it(ours, theirs):
    assert _found(ours, theirs) == ("a and b (1 is 'y' and 'z')",)
    assert _found(ours, ours) == ()


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"tokenizer.model": b"\x00\x01"},
        {"tokenizer.json": b"{"},
        {"tokenizer.json": b"[" * 100_000},
        {"tokenizer.json": [1]},
        {"tokenizer.json": {"model": 3, "added_tokens": 4}},
        {"tokenizer.json": {"model": {"vocab": [1, []]}, "added_tokens": [1, {"id": "x"}]}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"x": 1, "1": 2, "-1": {"content": "y"}}}},
        {"vocab.txt": b"\xff\xfe"[:0]},
    ],
)
def test_files_that_do_not_say_it(odd):
    assert _found({"vocab.json": {"x": 0, "y": 1}}, odd) == ()


def test_of_many_the_first_are_named():
    ours, theirs = ({f"{name}{i}": i for i in range(9)} for name in "xy")
    (text,) = _found({"vocab.json": ours}, {"vocab.json": theirs})
    assert text.endswith("2 is 'x2' and 'y2', and 6 more)")

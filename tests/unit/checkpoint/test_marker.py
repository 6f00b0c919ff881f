"""The marker: what it says of a settled and of a changing directory, and what it must not make us believe."""

from __future__ import annotations

import json

import pytest

from deltavcs.checkpoint.marker import Change, Marker, WrittenFile, encode_marker, read_marker, read_state
from deltavcs.oid import CommitId

COMMIT, FILE = CommitId("a" * 64), "b" * 64
FILES = {"config.json": WrittenFile(FILE, (3, 4, 5)), "unet/m.safetensors": WrittenFile(FILE)}


@pytest.mark.parametrize("state", [
    Marker(COMMIT, "v1"), Marker(COMMIT, "v1", {}), Marker(COMMIT, "a + b", FILES),
    Change(FILES), Change(FILES, Marker(COMMIT, "v1", FILES)), Change({}, Marker(COMMIT, "v1", {})),
], ids=lambda s: type(s).__name__)  # fmt: skip
def test_a_marker_says_what_was_put_into_it(tmp_path, state) -> None:
    (tmp_path / ".dvx-checkout.json").write_bytes(encode_marker(state))
    assert read_state(tmp_path) == state
    assert read_marker(tmp_path) == (state if isinstance(state, Marker) else None)


def test_a_changing_directory_names_no_commit_that_an_earlier_version_could_take_for_its_base() -> None:
    value = json.loads(encode_marker(Change(FILES, Marker(COMMIT, "v1", FILES))))
    assert value.keys() == {"files", "changing"}


BAD = [
    "", "[]", "{}", '"x"', '{"commit": "x", "revision": "v"}', '{"files": []}', '{"files": {"a": "x"}}',
    '{"files": {"a": []}}', '{"files": {"a": ["ID", 1]}}', '{"files": {"a": ["ID", "1", 2, 3]}}',
    '{"files": {"../a": ["ID"]}}', '{"files": {"/a": ["ID"]}}', '{"files": {".dvx/x": ["ID"]}}',
    '{"files": {}, "changing": 3}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda t: t[:30])
def test_what_is_no_marker_says_nothing(tmp_path, text) -> None:
    (tmp_path / ".dvx-checkout.json").write_text(text.replace("ID", FILE))
    assert read_state(tmp_path) is None


def test_a_link_is_no_marker(tmp_path) -> None:
    (tmp_path / "elsewhere").write_bytes(encode_marker(Marker(COMMIT, "v1", FILES)))
    (tmp_path / ".dvx-checkout.json").symlink_to(tmp_path / "elsewhere")
    assert read_state(tmp_path) is None

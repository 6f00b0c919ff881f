"""The identity of a file: the same from the ids of a manifest and from the bytes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from deltavcs.checkpoint.file_identity import identity_in_view, identity_on_disk, stamp_of
from deltavcs.checkpoint.view import view_of
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.targets import prepare_target
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tensors = {"a": raw_tensor("F32", [3, 4]), "empty": raw_tensor("F32", [0, 4]), "b": raw_tensor("I8", [5])}
    files = {"config.json": b"{}", "empty.txt": b""}
    return write_checkpoint(tmp_path / "m", tensors, shards=2, files=files, indent=2)


def test_from_ids_and_from_bytes_it_is_the_same(repo, source) -> None:
    import_base(repo, str(source))
    view = view_of(repo.manifest(repo.resolve("m")))
    assert len(view.files) == 5
    for file in view.files:
        assert identity_in_view(view, file, {}) == identity_on_disk(source / file.path), file.path


def test_of_what_is_computed_it_is_known_when_it_is_written(repo, source, tmp_path) -> None:
    import_base(repo, str(source))
    view = prepare_target(repo, "m", dtype="bfloat16", merge_adapter=False).view
    computed = [f for f in view.files if f.keys]
    assert all(identity_in_view(view, f, {}) is None for f in computed)
    checkout_files(repo, "m", tmp_path / "out", dtype="bfloat16")
    before = {x: stamp_of(x) for x in (tmp_path / "out").rglob("*") if x.name != ".dvx-checkout.json"}
    done = checkout_files(repo, "m", tmp_path / "out", dtype="bfloat16", update=True)
    assert (done.changed, len(done.kept)) == ((), 5)
    assert {x: stamp_of(x) for x in before} == before


def test_as_the_specification_says(source) -> None:
    """Restated by hand: BLAKE3 of a domain, a zero byte and what follows."""
    plain = source / "config.json"
    assert identity_on_disk(plain) == blake3(b"file\0{}").hexdigest()
    whole = source / "one.safetensors"
    write_checkpoint(source / "x", {"a": raw_tensor("U8", [2], b"hi")})
    (source / "x" / "model.safetensors").rename(whole)
    data = whole.read_bytes()
    header = blake3(b"file\0" + data[:-2]).hexdigest()
    tensor = blake3(b"tensor U8 [2]\0hi").hexdigest()
    assert identity_on_disk(whole) == blake3(f"checkout-file\0{header} {tensor}".encode()).hexdigest()


@pytest.mark.parametrize("data", [b"", b"no safetensors", b"\xff" * 40])
def test_a_broken_safetensors_file_is_bytes(tmp_path, data) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    assert identity_on_disk(tmp_path / "m.safetensors") == blake3(b"file\0" + data).hexdigest()


def test_only_a_regular_file_has_a_stamp(tmp_path) -> None:
    (tmp_path / "file").write_bytes(bytes(32))
    (tmp_path / "link").symlink_to("file")
    assert stamp_of(tmp_path / "file")[0] == 32
    assert stamp_of(tmp_path / "link") is None
    assert stamp_of(tmp_path) is None
    assert stamp_of(tmp_path / "none") is None

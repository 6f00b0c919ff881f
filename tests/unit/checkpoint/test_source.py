"""Directories as hostile input."""

from __future__ import annotations

import os
import threading
import time

import pytest
from safetensors import safe_open

from deltavcs.errors import (
    ConflictError,
    DeltaVCSError,
    ErrorKind,
    FormatError,
    InvalidInputError,
    NotFoundError,
)
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, safetensors_bytes, write_checkpoint
from deltavcs.testing.invariants import check_repository

W = {"w": raw_tensor("BF16", [4, 4])}


def refused(repo, source, sign, error=DeltaVCSError):
    """The import fails with `error`, and nothing at all has changed."""
    before = sorted(p for p in repo.path.rglob("*") if "lineage" not in p.name)
    with pytest.raises(error) as caught:
        import_base(repo, str(source), draft=Draft("m", signature=sign()))
    assert sorted(p for p in repo.path.rglob("*") if "lineage" not in p.name and "locks" not in p.parts) == [
        p for p in before if "locks" not in p.parts
    ]
    return caught.value


@pytest.mark.parametrize("name", ["pipe", "pipe.safetensors"])
def test_a_pipe_as_source_does_not_hang(repo, tmp_path, sign, name):
    os.mkfifo(tmp_path / name)
    refused(repo, tmp_path / name, sign, InvalidInputError)


def test_links_to_files_and_folders_are_followed(repo, tmp_path, sign):
    """As the Hub's cache lays checkpoints out."""
    store = tmp_path / "blobs"
    store.mkdir()
    (store / "abc").write_bytes(safetensors_bytes(W))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").symlink_to(store / "abc")
    import_base(repo, str(tmp_path / "m"), draft=Draft("m", signature=sign()))
    checkout_files(repo, "m", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (store / "abc").read_bytes()
    assert not (tmp_path / "out" / "model.safetensors").is_symlink()


def test_a_single_file_with_such_a_name(repo, tmp_path, sign):
    (tmp_path / "a:b.safetensors").write_bytes(safetensors_bytes(W))
    assert refused(repo, tmp_path / "a:b.safetensors", sign, FormatError).kind is ErrorKind.BAD_PATH


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_a_truncated_file(repo, tmp_path, sign, cut):
    directory = write_checkpoint(tmp_path / "m", W)
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    exc = refused(repo, directory, sign, FormatError)
    assert exc.kind is ErrorKind.BAD_HEADER and "model.safetensors" in exc.message


def test_a_tensor_in_two_shards(repo, tmp_path, sign):
    directory = write_checkpoint(tmp_path / "m", W | {"v": W["w"]}, shards=2)
    (directory / "model-00002-of-00002.safetensors").write_bytes(safetensors_bytes(W))
    (directory / "model.safetensors.index.json").unlink()
    exc = refused(repo, directory, sign, InvalidInputError)
    assert exc.kind is ErrorKind.BAD_CHECKPOINT and "'w'" in exc.message


MALFORMED = [
    b"",
    b"[]",
    b"{}",
    b'{"weight_map": []}',
    b'{"weight_map": {}}',
    b'{"weight_map": {"w": 5}}',
    b'{"weight_map": {"w": ["model.safetensors"]}}',
    b'{"weight_map": {"w": "../other.safetensors"}}',
    b'{"weight_map": {"w": "/etc/passwd"}}',
    b'{"weight_map": {"w": ""}}',
    b'{"weight_map": {"w": "missing.safetensors"}}',
    b"[" * 100_000,
    b"\xff",
]


@pytest.mark.parametrize("index", MALFORMED)
def test_a_malformed_index_of_shards_is_refused(repo, tmp_path, sign, index):
    directory = write_checkpoint(tmp_path / "m", W | {"v": W["w"]}, shards=2)
    (directory / "model.safetensors.index.json").write_bytes(index)
    exc = refused(repo, directory, sign, InvalidInputError)
    assert exc.kind is ErrorKind.BAD_CHECKPOINT and "model.safetensors.index.json" in exc.message


@pytest.mark.parametrize("index", MALFORMED)
def test_an_index_beside_the_one_file_is_only_a_file(repo, tmp_path, sign, index):
    directory = write_checkpoint(tmp_path / "m", W, files={"model.safetensors.index.json": index})
    import_base(repo, str(directory), draft=Draft("m", signature=sign()))
    checkout_files(repo, "m", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors.index.json").read_bytes() == index


@pytest.mark.parametrize("name", ["__metadata__x::y", "::", "a::b"])
def test_names_with_the_separator(repo, tmp_path, sign, name):
    directory = write_checkpoint(tmp_path / "m", {name: W["w"]})
    assert refused(repo, directory, sign, InvalidInputError).kind is ErrorKind.BAD_CHECKPOINT


def test_no_weights_and_no_source(repo, tmp_path, sign):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_bytes(b"{}")
    assert refused(repo, tmp_path / "m", sign).kind is ErrorKind.BAD_CHECKPOINT
    assert refused(repo, tmp_path / "m" / "config.json", sign).kind is ErrorKind.BAD_CHECKPOINT
    assert refused(repo, tmp_path / "ghost", sign, NotFoundError).kind is ErrorKind.UNKNOWN_SOURCE


# Files that change while they are read


class Changing:
    """Changes a file as soon as the import reads its tensors."""

    def __init__(self, monkeypatch, change):
        from deltavcs.storage import FileReader

        original = FileReader.read_into
        state = {"n": 0}

        def read_into(reader, start, out):
            original(reader, start, out)
            if reader.path.name == "model.safetensors" and start:
                state["n"] += 1
                change(reader.path, state["n"])

        monkeypatch.setattr(FileReader, "read_into", read_into)


@pytest.mark.parametrize("at", [2, 3, 6])
@pytest.mark.parametrize(
    "how", ["truncate", "overwrite", "overwrite, same times", "replace", "remove", "grow"]
)
def test_a_file_that_changes_while_it_is_read(repo, tmp_path, sign, monkeypatch, how, at):
    tensors = {f"w{i}": raw_tensor("BF16", [600, 1000], seed=i) for i in range(3)}
    directory = write_checkpoint(tmp_path / "m", tensors)
    stat = (directory / "model.safetensors").stat()

    def change(path, n):
        if n != at:
            return
        if how == "truncate":
            os.truncate(path, 5000)
        elif how == "replace":
            path.with_name("new").write_bytes(b"x")
            path.with_name("new").rename(path)
        elif how == "remove":
            path.unlink()
        else:
            with path.open("r+b") as file:
                file.seek(*((0, 2) if how == "grow" else (2000, 0)))
                file.write(os.urandom(stat.st_size - 2000))
            if how.endswith("same times"):
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    Changing(monkeypatch, change)
    try:
        exc = refused(repo, directory, sign, ConflictError)
    except pytest.fail.Exception:
        # Not noticed, since all was read before or after: then what is stored must at least be whole.
        assert how == "overwrite, same times"
        check_repository(repo.path.parent, lineage=False)
    else:
        assert exc.kind is ErrorKind.SOURCE_CHANGED


def test_a_file_that_never_rests(repo, tmp_path, sign):
    """A thread writes all the time, as a training run would."""
    directory = write_checkpoint(tmp_path / "m", {"w": raw_tensor("F32", [300, 1000])})
    stop = threading.Event()

    def scribble():
        with (directory / "model.safetensors").open("r+b") as file:
            while not stop.is_set():
                file.seek(1000)
                file.write(os.urandom(1_000_000))
                file.flush()
                time.sleep(0.001)

    thread = threading.Thread(target=scribble)
    thread.start()
    time.sleep(0.02)
    try:
        exc = refused(repo, directory, sign, ConflictError)
    finally:
        stop.set()
        thread.join()
    assert exc.kind is ErrorKind.SOURCE_CHANGED
    check_repository(repo.path.parent, lineage=False)


# What is written must be what can be read


@pytest.mark.parametrize(
    "settings",
    [
        {"message": "x" * (1 << 20) + "x"},
        {"message": "\udcff"},
        {"metadata": {"\udcff": "a"}},
        {"metadata": {str(i): "" for i in range(10_001)}},
    ],
    ids=["message too long", "message not UTF-8", "metadata not UTF-8", "too much metadata"],
)
def test_a_commit_that_could_not_be_read_is_not_written(repo, tmp_path, sign, settings):
    directory = write_checkpoint(tmp_path / "m", W)
    with pytest.raises(InvalidInputError) as caught:
        import_base(repo, str(directory), draft=Draft("m", **settings, signature=sign()))
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT
    assert repo.refs.all() == {}


# What the safetensors library opens


ONE = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
HEADERS = {
    "null metadata": f'{{"__metadata__":null,"a":{ONE}}}',
    "empty metadata": f'{{"__metadata__":{{}},"a":{ONE}}}',
    "no metadata": f'{{"a":{ONE}}}',
    "metadata of another library, last": f'{{"a":{ONE},"__metadata__":{{"format":"mlx","x":"1","x":"2"}}}}',
    "white space all over": f'  {{\n"a"\t: {ONE} }}\r\n      ',
    "unknown fields": '{"a":{"x":[1,{}],"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "a tensor twice": f'{{"a":{ONE},"a":{ONE}}}',
    "no name": f'{{"":{ONE}}}',
    "escapes": f'{{"\\u0061\\ud83d\\ude00\\/b c":{ONE}}}',
    "scalar and empty": '{"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},'
    '"e":{"dtype":"BF16","shape":[3,0],"data_offsets":[8,8]},"f":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}}',
}


@pytest.mark.parametrize("case", HEADERS)
def test_any_header_that_the_library_opens_comes_back(repo, tmp_path, sign, case):
    text = HEADERS[case].encode()
    data = len(text).to_bytes(8, "little") + text + b"12345678"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    with safe_open(tmp_path / "m" / "model.safetensors", "np") as file:
        names = set(file.keys())
    done = import_base(repo, str(tmp_path / "m"), draft=Draft("m", signature=sign()))
    assert repo.manifest(done.recorded.commit).primary.keys() == names
    checkout_files(repo, "m", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == data


def test_a_file_without_tensors_is_called_that(repo, tmp_path, sign):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    exc = refused(repo, tmp_path / "m", sign, InvalidInputError)
    assert "holds no tensors: model.safetensors is empty" in exc.message

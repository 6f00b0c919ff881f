"""Byte identity: what comes out of a repository is what went in, file by file, by SHA-256."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import (
    BITS,
    RawTensor,
    fine_tuned,
    raw_tensor,
    safetensors_bytes,
    write_checkpoint,
)

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "data/models/stories260k"
MARKER = ".dvx-checkout.json"


def sums(directory):
    """SHA-256 and executable bit of every file, and the directories that hold them."""
    return {
        p.relative_to(directory).as_posix(): (
            hashlib.sha256(p.read_bytes()).hexdigest(),
            bool(p.stat().st_mode & 0o100),
        )
        for p in directory.rglob("*")
        if p.is_file() and p.name != MARKER
    }


@pytest.fixture
def through(repo, tmp_path, sign):
    """Import or commit a directory, check it out, and prove that both are the same."""
    outputs = (tmp_path / f"out-{i}" for i in itertools.count())

    def go(directory, *, base=None, name="it"):
        if base is None:
            import_base(repo, str(directory), draft=Draft(name, signature=sign()))
        else:
            commit(repo, str(directory), base=base, draft=Draft(name, signature=sign()))
        out = next(outputs)
        checkout_files(repo, name, out)
        assert sums(out) == sums(directory)
        return out

    return go


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs the real model")
def test_a_real_model_and_a_fine_tune_of_it(through, tmp_path):
    tuned = tmp_path / "tuned"
    shutil.copytree(STORIES, tuned, copy_function=shutil.copyfile)
    weights = {
        n: RawTensor("F32", a.shape, (a + np.float32(1e-3) * np.sign(a)).tobytes())
        for n, a in load_file(STORIES / "model.safetensors").items()
    }
    tuned.chmod(0o755)
    (tuned / "model.safetensors").unlink()
    (tuned / "model.safetensors").write_bytes(safetensors_bytes(weights, metadata={"format": "pt"}))
    through(STORIES, name="base")
    through(tuned, base="base", name="tuned")


@pytest.mark.parametrize("shards", [2, 5])
def test_sharded_checkpoints(through, tmp_path, shards):
    tensors = {f"layer.{i}.weight": raw_tensor("BF16", [31, 16], seed=i) for i in range(11)}
    files = {"config.json": b'{"a": 1}', "tokenizer.model": bytes(range(256)) * 9}
    base = write_checkpoint(tmp_path / "base", tensors, shards=shards, files=files)
    through(base, name="base")
    tuned = write_checkpoint(tmp_path / "tuned", fine_tuned(tensors, seed=1), shards=shards, files=files)
    through(tuned, base="base", name="tuned")
    other = write_checkpoint(tmp_path / "other", fine_tuned(tensors, seed=2), shards=1)
    through(other, base="base", name="one-file-from-shards")


def test_tied_and_repeated_tensors_are_stored_once(through, repo, tmp_path):
    same = raw_tensor("F16", [64, 32], seed=1)
    tensors = {"embed.weight": same, "head.weight": same, "other": raw_tensor("F16", [64, 32], seed=2)}
    through(write_checkpoint(tmp_path / "tied", tensors, shards=2))
    assert len(repo.objects.packs.table) == 2 + 2 + 1  # tensors, headers, index


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_alone_and_as_a_fine_tune(through, tmp_path, dtype):
    tensors = {
        "matrix": raw_tensor(dtype, [24, 16], seed=1),
        "vector": raw_tensor(dtype, [8], seed=2),
        "empty": raw_tensor(dtype, [0, 3]),
        "empty too": raw_tensor(dtype, [2, 0]),
        "every byte": raw_tensor(dtype, [256 * 8 * 3 // BITS[dtype]], bytes(range(256)) * 3),
    }
    if BITS[dtype] % 8 == 0:
        tensors["scalar"] = raw_tensor(dtype, [], seed=3)
        tensors["deep"] = raw_tensor(dtype, [1] * 20, seed=4)
    base = write_checkpoint(tmp_path / "base", tensors)
    through(base, name="base")
    tuned = write_checkpoint(tmp_path / "tuned", fine_tuned(tensors, seed=7, share=0.5))
    out = through(tuned, base="base", name="tuned")
    with safe_open(out / "model.safetensors", framework="np") as file:
        assert set(file.keys()) == set(tensors)
        assert list(file.get_slice("matrix").get_shape()) == [24, 16]


@pytest.mark.parametrize(("dtype", "item"), [("BF16", "<u2"), ("F16", "<u2"), ("F32", "<u4")])
def test_every_pattern_survives_against_every_kind_of_base(through, tmp_path, dtype, item):
    """NaN payloads, both zeros, infinities and subnormals, as target and as base."""
    if item == "<u2":
        patterns = np.arange(1 << 16, dtype=item)
    else:
        patterns = (np.arange(1 << 16, dtype="<u4") << 16) | np.arange(1 << 16, dtype="<u4")[::-1]
    rng = np.random.default_rng(0)

    def write(name, values):
        tensor = raw_tensor(dtype, [values.size], values.astype(item).tobytes())
        return write_checkpoint(tmp_path / name, {"t": tensor})

    through(write("base", patterns), name="base")
    for name, values in {
        "reversed": patterns[::-1],
        "shuffled": rng.permutation(patterns),
        "signs": patterns ^ (1 << (8 * patterns.itemsize - 1)),
        "one-off": patterns + 1,
    }.items():
        through(write(name, values), base="base", name=name)


HEADERS = {
    "long padding": {"padding": 3000},
    "no padding": {"padding": 0},
    "odd padding": {"padding": 5},
    "indented": {"indent": 2},
    "escaped names": {"ascii_only": True},
    "keys backwards": {"key_order": ["ünïcødé/😀", "b", "a", 'quote"back\\slash', ""]},
    "metadata": {"metadata": {"format": "pt", "å": "\u2028\x00", "": ""}},
    "empty metadata": {"metadata": {}},
}


@pytest.mark.parametrize("form", HEADERS)
def test_headers_of_any_form(through, tmp_path, form):
    names = ["b", "a", "ünïcødé/😀", 'quote"back\\slash', ""]
    tensors = {name: raw_tensor("F32", [3], seed=i) for i, name in enumerate(names)}
    directory = write_checkpoint(tmp_path / "m", tensors, **HEADERS[form])
    out = through(directory)
    assert set(load_file(out / "model.safetensors")) == set(names)


def test_a_header_with_duplicate_white_space_and_exotic_numbers(through, tmp_path):
    text = b'{ "a" :\t{"shape":[2 , 1],\n"data_offsets":[0,\t2],"dtype":"\\u0055\\u0038"}}   \n'
    (tmp_path / "m").mkdir()
    data = len(text).to_bytes(8, "little") + text + b"\1\2"
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    through(tmp_path / "m")


def test_files_of_any_kind_come_along(through, tmp_path):
    tensors = {"w": raw_tensor("BF16", [16, 16])}
    files = {
        "empty": b"",
        "deep/er/and/deeper/file.bin": bytes(100_000),
        "names with spaces/ünï code.txt": b"\xff\xfe",
        ".hidden/.gitignore": b"*",
        "big.bin": np.random.default_rng(0).bytes(3_000_000),
        "other.safetensors": safetensors_bytes({"w": tensors["w"], "x": raw_tensor("I64", [3])}),
        "sub/model.safetensors": safetensors_bytes({"w": raw_tensor("F32", [5]), "y": tensors["w"]}),
        "readme.safetensors.txt": b"not weights",
    }
    directory = write_checkpoint(tmp_path / "m", tensors, files=files)
    (directory / "run.sh").write_bytes(b"#!/bin/sh\n")
    (directory / "run.sh").chmod(0o755)
    through(directory)


def test_two_thousand_files(through, tmp_path):
    files = {f"shard/{i % 7}/{i}.json": b"%d" % i for i in range(2000)}
    through(write_checkpoint(tmp_path / "m", {"w": raw_tensor("U8", [4])}, files=files))


def test_grown_and_shrunk_vocabularies(through, tmp_path):
    base = {"embed_tokens.weight": raw_tensor("BF16", [100, 32], seed=1), "w": raw_tensor("BF16", [32, 32])}
    through(write_checkpoint(tmp_path / "base", base), name="base")
    rows = fine_tuned(base, seed=2)["embed_tokens.weight"].data
    for name, n in (("grown", 131), ("shrunk", 64)):
        data = (rows + raw_tensor("BF16", [31, 32], seed=3).data)[: n * 64]
        tensors = base | {"embed_tokens.weight": raw_tensor("BF16", [n, 32], data)}
        through(write_checkpoint(tmp_path / name, tensors), base="base", name=name)


def test_a_fine_tune_in_another_dtype(through, tmp_path):
    through(write_checkpoint(tmp_path / "base", {"w": raw_tensor("F32", [64, 8])}), name="base")
    through(write_checkpoint(tmp_path / "half", {"w": raw_tensor("BF16", [64, 8])}), base="base", name="half")


def test_more_than_one_chunk_and_span(through, repo, tmp_path):
    """5.2 MiB per tensor: six chunks, two spans; the run's second checkpoint leans on the first."""
    tensors = {"w": raw_tensor("BF16", [2700, 1000], seed=1), "f": raw_tensor("F32", [1300, 1001], seed=2)}
    through(write_checkpoint(tmp_path / "base", tensors), name="base")
    first = fine_tuned(tensors, seed=3, scale=0.3)
    through(write_checkpoint(tmp_path / "one", first), base="base", name="run")
    through(
        write_checkpoint(tmp_path / "two", fine_tuned(first, seed=4, share=0.01)), base="base", name="run"
    )
    last = repo.manifest(repo.resolve("run")).tensors["w"]
    assert repo.objects.blobs.stored(last.blob).depth == 2


def test_a_run_of_checkpoints_never_makes_long_chains(through, repo, tmp_path):
    tensors = {"w": raw_tensor("BF16", [100, 64], seed=1)}
    through(write_checkpoint(tmp_path / "base", tensors), name="base")
    for i in range(12):
        tensors = fine_tuned(tensors, seed=i + 2, scale=10, share=0.02)
        through(write_checkpoint(tmp_path / f"step-{i}", tensors), base="base", name="run")
    depths = [
        repo.objects.blobs.stored(repo.manifest(repo.resolve(f"run~{i}")).tensors["w"].blob).depth
        for i in range(12)
    ]
    assert 2 <= max(depths) <= 8


def test_tensors_in_memory_are_those_on_disk(through, repo, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {d: raw_tensor(d, [8, 2], seed=3) for d in BITS if BITS[d] % 8 == 0} | {
        "scalar": raw_tensor("BF16", []),
        "empty": raw_tensor("F32", [0, 4]),
    }
    through(write_checkpoint(tmp_path / "m", tensors))
    state = checkout(repo, "it")
    assert set(state) == set(tensors)
    for name, tensor in state.items():
        assert tuple(tensor.shape) == tensors[name].shape
        assert tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() == tensors[name].data


# Generated checkpoints

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda n: n != "__metadata__" and "::" not in n
)


@st.composite
def any_tensor(draw):
    dtype = draw(st.sampled_from(list(BITS)))
    per_byte = 8 // np.gcd(8, BITS[dtype])
    shape = draw(st.lists(st.integers(0, 7), max_size=3))
    if BITS[dtype] % 8:
        shape.append(int(per_byte) * draw(st.integers(0, 3)))
    size = int(np.prod(shape, dtype=np.int64)) * BITS[dtype] // 8
    data = draw(st.binary(min_size=size, max_size=size))
    return raw_tensor(dtype, shape, data)


@st.composite
def next_version(draw, tensor: RawTensor):
    """A later state of a tensor: the same, nudged, other bytes, more rows, another dtype."""
    how = draw(st.sampled_from(["same", "nudged", "bytes", "rows"]))
    if how == "same":
        return tensor
    if how == "nudged":
        return fine_tuned({"t": tensor}, seed=draw(st.integers(0, 99)), share=0.5)["t"]
    if how == "rows" and tensor.shape and BITS[tensor.dtype] % 8 == 0:
        shape = (tensor.shape[0] + draw(st.integers(-2, 3)), *tensor.shape[1:])
        if shape[0] >= 0:
            grown = raw_tensor(tensor.dtype, shape, seed=1)
            data = (tensor.data + grown.data)[: len(grown.data)]
            return raw_tensor(tensor.dtype, shape, data)
    return raw_tensor(
        tensor.dtype, tensor.shape, draw(st.binary(min_size=len(tensor.data), max_size=len(tensor.data)))
    )


@st.composite
def two_checkpoints(draw):
    tensors = draw(st.dictionaries(NAMES, any_tensor(), min_size=1, max_size=5))
    later = {n: draw(next_version(t)) for n, t in tensors.items()}
    framing = {
        "key_order": draw(st.permutations(list(tensors))),
        "padding": draw(st.sampled_from([None, 0, 1, 9])),
        "indent": draw(st.sampled_from([None, 1])),
        "ascii_only": draw(st.booleans()),
        "metadata": draw(st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2)),
    }
    if framing["metadata"] is not None:
        framing["metadata"] = {
            k.encode("utf-8", "ignore").decode(): v.encode("utf-8", "ignore").decode()
            for k, v in framing["metadata"].items()
        }
    files = draw(st.dictionaries(st.sampled_from(["a", "b/c", "config.json"]), st.binary(max_size=50)))
    shards = draw(st.integers(1, 2)) if len(tensors) > 1 else 1
    if shards > 1:
        framing.pop("key_order")
    return tensors, later, framing, files, shards


@settings(max_examples=20)
@given(two_checkpoints())
def test_any_checkpoint_and_any_successor(case):
    tensors, later, framing, files, shards = case
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        repo = init_repository(top / "repo", sync=False)
        base = write_checkpoint(top / "base", tensors, shards=shards, files=files, **framing)
        tuned = write_checkpoint(top / "tuned", later, shards=shards, files=files, **framing)
        import_base(repo, str(base), draft=Draft("base", signature=Signature("t", 1)))
        commit(repo, str(tuned), base="base", draft=Draft("tuned", signature=Signature("t", 2)))
        for name in ("base", "tuned"):
            checkout_files(repo, name, top / f"out-{name}")
            assert sums(top / f"out-{name}") == sums(top / name)


def test_the_index_of_a_sharded_checkpoint_is_only_a_file(through, tmp_path):
    """Written by hand, with its own spacing and order; it must come out so."""
    tensors = {"a": raw_tensor("F32", [2]), "b": raw_tensor("F32", [3])}
    directory = write_checkpoint(tmp_path / "m", tensors, shards=2)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=7) + " \n\n")
    through(directory)

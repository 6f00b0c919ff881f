"""The spec is enough to read a repository: an independent reader rebuilds every file of every commit."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest
from dvx_reader import Bad, Reader

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import BITS, fine_tuned, raw_tensor, write_checkpoint


def files_below(directory):
    return {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".dvx-checkout.json"
    }


def model(dtype, seed=0, vocab=100):
    return {
        "model.embed_tokens.weight": raw_tensor(dtype, [vocab, 48], seed=seed),
        "model.layers.0.mlp.weight": raw_tensor(dtype, [70, 48], seed=seed + 1),
        "model.norm.weight": raw_tensor(dtype, [48], seed=seed + 2),
    }


def narrow_f32(tensors):
    """BF16 weights stored as F32."""
    return {
        n: raw_tensor("F32", t.shape, (np.frombuffer(t.data, "<u2").astype("<u4") << 16).tobytes())
        for n, t in tensors.items()
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def rich(sources):
    """A repository with every codec, dtype and framing that a small one can hold. Not to be changed."""
    tmp_path = sources
    repo = init_repository(sources / "repo", sync=False)
    clock = itertools.count(1)

    def sign():
        return Signature("tester", next(clock))

    def add(name, tensors, base=None, **kw):
        directory = write_checkpoint(tmp_path / name, tensors, **kw)
        if base is None:
            import_base(repo, str(directory), draft=Draft(name, signature=sign()))
        else:
            commit(repo, str(directory), base=base, draft=Draft(name, signature=sign()))

    for dtype in ("BF16", "F16", "F32"):
        low = dtype.lower()
        add(f"{low}-v1", model(dtype), shards=2, files={"config.json": b"{}", "a/b.bin": bytes(300)})
        add(f"{low}-v2", model(dtype, seed=9, vocab=104))
        add(f"{low}-light", fine_tuned(model(dtype), seed=1, share=0.1), base=f"{low}-v1")
        add(f"{low}-heavy", fine_tuned(model(dtype), seed=2, scale=30), base=f"{low}-v1")
        transfer(repo, f"{low}-light", f"{low}-v2", scale=0.7, draft=Draft(f"{low}-moved", signature=sign()))
    add("narrow", narrow_f32(model("BF16")))
    add("narrow-tuned", narrow_f32(fine_tuned(model("BF16"), seed=3)), base="narrow")
    transfer(repo, "bf16-heavy", "bf16-moved", scale=-0.3, draft=Draft("twice", signature=sign()))
    zoo = {f"t.{d}": raw_tensor(d, [40, 4], seed=i) for i, d in enumerate(BITS)}
    zoo |= {"scalar": raw_tensor("F32", []), "empty": raw_tensor("BF16", [0, 7])}
    add("zoo", zoo, metadata={"format": "pt"}, files={"empty.txt": b""})
    add("zoo-tuned", fine_tuned(zoo, seed=5), base="zoo", indent=1)
    (tmp_path / "zoo-tuned" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "zoo-tuned" / "run.sh").chmod(0o755)
    commit(repo, str(tmp_path / "zoo-tuned"), base="zoo", draft=Draft("zoo-tuned", signature=sign()))
    return repo


def test_every_commit_comes_out_as_the_library_writes_it(rich, tmp_path):
    reader = Reader(rich.path)
    assert reader.refs() == rich.refs.all()
    n_files = 0
    for ref, tip in reader.refs().items():
        for oid in reader.history(tip):
            out = tmp_path / "out" / oid
            if not out.exists():
                checkout_files(rich, oid, out)
            read = reader.read_files(oid)
            assert {p: d for p, (d, _) in read.items()} == files_below(out), ref
            assert {p for p, (_, x) in read.items() if x} == {
                p for p in files_below(out) if (out / p).stat().st_mode & 0o100
            }
            n_files += len(read)
    assert n_files > 40
    assert reader.codecs_seen >= {1, 2, 3, 4, 255} and reader.codecs_seen & {0, 1}


@pytest.fixture
def copy(rich, tmp_path):
    shutil.copytree(rich.path, tmp_path / ".dvx")
    return open_repository(tmp_path)


def test_packs_can_be_read_without_their_indexes(copy):
    with_index = Reader(copy.path)
    expected = {ref: with_index.read_files(tip) for ref, tip in with_index.refs().items()}
    for index in (copy.path / "packs").glob("*.idx"):
        index.unlink()
    without = Reader(copy.path)
    assert {ref: without.read_files(tip) for ref, tip in without.refs().items()} == expected


def test_sources_come_out_of_the_independent_reader_as_they_went_in(rich, sources):
    reader = Reader(rich.path)
    for name in ("bf16-v1", "f16-light", "f32-heavy", "zoo", "narrow-tuned"):
        read = reader.read_files(reader.refs()[f"refs/heads/{name}"])
        assert {p: d for p, (d, _) in read.items()} == files_below(sources / name)


def test_the_reader_notices_a_flipped_byte(copy):
    pack = max((copy.path / "packs").glob("*.pack"), key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(Bad):
        Reader(copy.path)

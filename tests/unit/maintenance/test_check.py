"""What a check finds, and that it ends whatever happens to the files meanwhile."""

from __future__ import annotations

import os

import pytest

from deltavcs.advice import Advice
from deltavcs.maintenance import check as module
from deltavcs.maintenance.check import check
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import open_repository
from deltavcs.resources import Resources
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint


@pytest.fixture
def stored(repo, tmp_path, sign):
    """A repository of one checkpoint, in one pack."""
    import_base(
        repo,
        str(write_checkpoint(tmp_path / "m", {"w": raw_tensor("BF16", [64, 64])})),
        draft=Draft(signature=sign()),
    )
    return repo


def problems(repo, *, full=False):
    opened = open_repository(repo.path.parent)
    return check(opened.objects, opened.refs, full=full, resources=Resources(threads=2))[0]


def the(repo, suffix):
    (path,) = (repo.path / "packs").glob(f"*.{suffix}")
    return path


@pytest.mark.parametrize("full", [False, True])
def test_a_whole_repository_has_no_problems(stored, full):
    assert problems(stored, full=full) == []


def test_a_damaged_pack_index(stored):
    index = the(stored, "idx")
    data = index.read_bytes()
    for at in (0, 40, len(data) - 1):
        index.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        (problem,) = problems(stored)
        assert (problem.kind, problem.advice) == ("corrupt", Advice.REBUILD_INDEX)


def test_a_flipped_byte_of_a_payload_is_found_by_a_full_check_alone(stored):
    pack = the(stored, "pack")
    data = bytearray(pack.read_bytes())
    data[-100] ^= 1
    pack.write_bytes(data)
    assert problems(stored) == []
    found = problems(stored, full=True)
    assert [p.kind for p in found if p.where == f"pack {pack.stem[:12]}"] == ["hash-mismatch"]
    assert len(found) == 2 and found[1].where.endswith(", w")


def test_a_pack_that_is_cut_while_it_is_hashed_is_a_problem_and_no_crash(stored, monkeypatch):
    pack = the(stored, "pack")
    scan = module.scan_pack

    def scan_and_cut(file):
        records = scan(file)
        os.truncate(pack, 100)
        return records

    monkeypatch.setattr(module, "scan_pack", scan_and_cut)
    monkeypatch.setattr(module, "SPAN_BYTES", 64)
    found = [p.kind for p in problems(stored, full=True) if p.where == f"pack {pack.stem[:12]}"]
    assert found == ["truncated"]

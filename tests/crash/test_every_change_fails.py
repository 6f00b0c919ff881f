"""Every change that a verb makes to the disk fails once; afterwards all is as the spec says (§8)."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path

import pytest

from deltavcs.errors import DeltaVCSError, ErrorKind, StorageError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.refs import ABSENT
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint
from deltavcs.testing.invariants import check_repository
from deltavcs.testing.storage import FaultyStorage, Lost

WHEN = Signature("tester", 1_700_000_000_000_000, "a message")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A repository with v1, v2 and tuned, and checkpoints that are not in it yet. Not to be changed."""
    top = tmp_path_factory.mktemp("world")
    v1 = {"w": raw_tensor("BF16", [64, 40], seed=1), "n": raw_tensor("F32", [40], seed=2)}
    write_checkpoint(top / "v1", v1, shards=2, files={"config.json": b"{}"})
    write_checkpoint(top / "v2", fine_tuned(v1, seed=3, scale=0.5))
    write_checkpoint(top / "tuned", fine_tuned(v1, seed=4))
    write_checkpoint(top / "more", fine_tuned(v1, seed=5), files={"notes.txt": b"hello"})
    write_checkpoint(top / "new", {"w": raw_tensor("F16", [80, 40], seed=6)}, files={"a/b": b"x" * 1000})
    repo = init_repository(top / "repo", sync=False)
    import_base(repo, str(top / "v1"), draft=Draft("v1", signature=WHEN))
    import_base(repo, str(top / "v2"), draft=Draft("v2", signature=WHEN))
    commit(repo, str(top / "tuned"), base="v1", draft=Draft("tuned", signature=WHEN))
    repo.refs.move("refs/tags/t1", expected=ABSENT, new=repo.resolve("v1"), signature=WHEN)
    return top


def move(repo, ref, new):
    repo.refs.move(ref, expected=repo.refs.get(ref), new=new, signature=WHEN)


VERBS = {
    "import": lambda repo, top: import_base(repo, str(top / "new"), draft=Draft("new", signature=WHEN)),
    "commit": lambda repo, top: commit(
        repo, str(top / "more"), base="v1", draft=Draft("tuned", signature=WHEN)
    ),
    "transfer": lambda repo, top: transfer(repo, "tuned", "v2", scale=0.5, draft=Draft(signature=WHEN)),
    "branch": lambda repo, top: move(repo, "refs/heads/a/b/c", repo.resolve("v1")),
    "move": lambda repo, top: move(repo, "refs/heads/v2", repo.resolve("v1")),
    "tag": lambda repo, top: move(repo, "refs/tags/t2", repo.resolve("tuned")),
    "delete": lambda repo, top: move(repo, "refs/tags/t1", ABSENT),
}
FAULTS = {
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "disk failed": lambda: OSError(errno.EIO, "Input/output error"),
    "interrupt": KeyboardInterrupt,
}


def clone(world, tmp_path):
    """A copy whose folder has the same name, so that nothing depends on it."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(world / "repo", copy)
    return copy


def changes_of(verb, world, tmp_path):
    storage = FaultyStorage(clone(world, tmp_path) / ".dvx")
    repo = Repository(storage)
    VERBS[verb](repo, world)
    return storage.changes, repo.refs.all()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_change_leaves_old_or_new_and_nothing_else(verb, fault, world, tmp_path):
    before = open_repository(world / "repo").refs.all()
    changes, after = changes_of(verb, world, tmp_path)
    assert changes, "the verb changes nothing"
    assert len([ref for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref)]) == 1
    outcomes = set()
    for i, change in enumerate(changes):
        if fault == "disk failed" and i % 4 and len(changes) > 4:  # the same way out as for a full disk
            continue
        directory = clone(world, tmp_path)
        storage = FaultyStorage(directory / ".dvx", fail_at=i, error=FAULTS[fault])
        raised, said = True, ""
        try:
            VERBS[verb](Repository(storage), world)
        except StorageError as exc:
            assert fault.startswith("disk"), change
            assert exc.kind is (ErrorKind.DISK_FULL if fault == "disk full" else ErrorKind.IO)
        except KeyboardInterrupt as exc:
            assert fault == "interrupt"
            said = str(exc)
        else:
            raised = False
        repo = check_repository(directory, lineage=False)
        now = repo.refs.all()
        assert now in (before, after), f"after a fault at {change}"
        assert now == after or raised, "a verb that did nothing must say so"
        if fault == "interrupt" and verb in ("import", "commit", "transfer"):
            assert ("already recorded" in said) == (now == after and raised), f"interrupted at {change}"
        outcomes.add(now == after)
        if i % 8 == 0:
            run_again(verb, repo, world, after)
    assert False in outcomes


def run_again(verb, repo, world, after):
    """A second run succeeds, and the lineage index comes out as a rebuilt one."""
    with contextlib.suppress(DeltaVCSError):  # a ref that is there already
        VERBS[verb](repo, world)
    assert repo.refs.all() == after
    check_repository(repo.path.parent)


@pytest.mark.parametrize("verb", VERBS)
def test_a_process_that_is_gone_at_any_change(verb, world, tmp_path):
    """The directory as it is before each change is what a killed process leaves."""
    directory = clone(world, tmp_path)
    moments = tmp_path / "moments"

    def remember(what, key):
        shutil.copytree(directory / ".dvx", moments / str(len(storage.changes)) / ".dvx")

    before = open_repository(directory).refs.all()
    storage = FaultyStorage(directory / ".dvx", before=remember)
    VERBS[verb](Repository(storage), world)
    after = open_repository(directory).refs.all()
    for i in range(1, len(storage.changes) + 1):
        repo = check_repository(moments / str(i), lineage=False)
        assert repo.refs.all() in (before, after), storage.changes[i - 1]
        if i % 8 == 1:
            run_again(verb, repo, world, after)


def test_the_ref_is_the_only_commit_point(world, tmp_path):
    """Any fault up to the rename of the ref leaves the old state; any after it the new one."""
    changes, after = changes_of("commit", world, tmp_path)
    point = changes.index(("rename", "refs/heads/tuned"))
    order = [
        k.split("/")[0] + ("/idx" if k.endswith(".idx") else "") for what, k in changes if what == "rename"
    ]
    assert order == ["packs", "packs/idx", "objects", "objects", "objects", "refs"]
    for i in range(len(changes)):
        directory = clone(world, tmp_path)
        storage = FaultyStorage(directory / ".dvx", fail_at=i, error=Lost)
        with contextlib.suppress(Lost):
            VERBS["commit"](Repository(storage), world)
        assert (open_repository(directory).refs.all() == after) == (i > point), changes[i]


@pytest.mark.parametrize("verb", ["import", "commit", "transfer"])
def test_a_disk_that_stays_full(verb, world, tmp_path):
    """From the first failure on nothing more can be written, not even to clean up."""
    changes, after = changes_of(verb, world, tmp_path)
    for i in range(0, len(changes), 3):
        directory = clone(world, tmp_path)
        before = open_repository(directory).refs.all()
        storage = FaultyStorage(directory / ".dvx", fail_at=i, error=FAULTS["disk full"], sticky=True)
        with contextlib.suppress(StorageError):
            VERBS[verb](Repository(storage), world)
        assert check_repository(directory, lineage=False).refs.all() in (before, after)


def test_nothing_is_left_in_the_workspace_after_an_error(world, tmp_path):
    changes, _ = changes_of("commit", world, tmp_path)
    for i in range(len(changes)):
        directory = clone(world, tmp_path)
        storage = FaultyStorage(directory / ".dvx", fail_at=i, error=FAULTS["disk full"])
        with contextlib.suppress(StorageError):
            VERBS["commit"](Repository(storage), world)
        assert not list((directory / ".dvx" / "tmp").iterdir()), changes[i]


@pytest.mark.parametrize("keep", [0, 1, 16, 100, 0.5, -1])
def test_a_torn_pack_index_or_object_in_tmp_is_swept(world, tmp_path, keep):
    """A lost machine leaves a prefix of what was being written: in `tmp/`, never under a final name."""
    directory = clone(world, tmp_path)
    tmp = directory / ".dvx" / "tmp"
    pack = max((directory / ".dvx" / "packs").glob("*.pack"), key=lambda p: p.stat().st_size).read_bytes()
    torn = pack[: int(len(pack) * keep) if isinstance(keep, float) else keep]
    for name in ("writer-0123/pack", "writer-0123/lock", "put-4567", "writer-89ab/pack", "writer-empty/x/y"):
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp / name).write_bytes(torn)
    (tmp / "writer-nothing").mkdir()
    before = open_repository(directory).refs.all()
    assert check_repository(directory, lineage=False).refs.all() == before


def test_a_pack_without_its_index_and_an_orphaned_index(world, tmp_path):
    """What a crash between publishing a pack and its index leaves, and damage of the index afterwards."""
    directory = clone(world, tmp_path)
    indexes = sorted((directory / ".dvx" / "packs").glob("*.idx"))
    indexes[0].unlink()
    indexes[1].write_bytes(indexes[1].read_bytes()[:-9])
    indexes[2].write_bytes(b"")
    repo = open_repository(directory)
    for name in ("v1", "v2", "tuned"):
        checkout_files(repo, name, tmp_path / name)
        assert (tmp_path / name / "model.safetensors").exists() or name == "v1"
    for pack in repo.objects.packs.ids():
        repo.objects.packs.reindex(pack)
    check_repository(directory)


def test_a_torn_reflog_line_is_skipped_and_ended(world, tmp_path):
    repo = open_repository(clone(world, tmp_path))
    log = repo.path / "logs" / "refs.log"
    n = len(list(repo.refs.log()))
    log.write_bytes(log.read_bytes() + b'{"ref": "refs/heads/x", "old": nul')
    assert len(list(repo.refs.log())) == n
    VERBS["tag"](repo, world)
    assert [e.ref for e in repo.refs.log()][n:] == ["refs/tags/t2"]


def test_a_failed_checkout_leaves_no_output(world, tmp_path):
    directory = clone(world, tmp_path)
    pack = max((directory / ".dvx" / "packs").glob("*.pack"), key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    repo = open_repository(directory)
    failed = 0
    for name in ("v1", "v2", "tuned"):
        try:
            checkout_files(repo, name, tmp_path / "outputs" / name)
        except DeltaVCSError as exc:
            failed += 1
            assert exc.kind in (ErrorKind.HASH_MISMATCH, ErrorKind.CORRUPT)
            assert f"commit {repo.resolve(name)[:12]}" in exc.message and pack.stem[:12] in exc.message
            assert not (tmp_path / "outputs" / name).exists()
    assert failed
    assert not [p for p in Path(tmp_path / "outputs").iterdir() if p.name.startswith(".")]

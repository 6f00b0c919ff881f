"""Real processes: killed at random moments, interrupted, and several at once on one repository."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from deltavcs.errors import ConflictError
from deltavcs.porcelain import gc
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint
from deltavcs.testing.invariants import check_repository

WHEN = Signature("tester", 1_700_000_000_000_000)

# Says "ready" when all is imported, so that signals hit the work and not the start of Python.
# A shell that runs the tests in the background has them ignore Ctrl-C, and so every child.
CHILD = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
import deltavcs.index.lineage_index, duckdb
from deltavcs.errors import DeltaVCSError
from deltavcs.porcelain.commit import commit
from deltavcs.signature import Signature
from deltavcs.repo import open_repository
from deltavcs.steps.recording import Draft

repo, name, *sources = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for i, source in enumerate(sources):
    try:
        draft = Draft(name, source, signature=Signature("child", i + 1))
        commit(open_repository(Path(repo)), source, base="base", draft=draft)
        print("done", source, flush=True)
    except DeltaVCSError as exc:
        print("error", exc.kind, source, flush=True)
"""


class Child:
    """A process that commits `sources` to branch `name`, one after another, once it is told to."""

    def __init__(self, repo, name, sources):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(repo), name, *map(str, sources)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def join(self, timeout=120):
        out, err = self.process.communicate(timeout=timeout)
        return [line.split() for line in out.splitlines()], err


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A repository with `base`, and six fine-tunes beside it."""
    top = tmp_path_factory.mktemp("world")
    base = {f"w{i}": raw_tensor("BF16", [500, 200], seed=i) for i in range(5)}
    write_checkpoint(top / "base", base)
    for i in range(6):
        write_checkpoint(top / f"tuned-{i}", fine_tuned(base, seed=i + 10))
    import_base(init_repository(top / "repo"), str(top / "base"), draft=Draft("base", signature=WHEN))
    return top


@pytest.fixture
def directory(world, tmp_path):
    shutil.copytree(world / "repo", tmp_path / "repo")
    return tmp_path / "repo"


def test_killed_at_random_moments(world, directory):
    """Fifteen times: whatever was being done is done or not done, and the next process goes on."""
    rng = random.Random(1)
    reached = set()
    for attempt in range(15):
        sources = [str(world / f"tuned-{(attempt + k) % 6}") for k in (0, 1)]
        child = Child(directory, "run", sources)
        child.go()
        first = [child.process.stdout.readline().split()] if attempt % 3 == 0 else []
        time.sleep(rng.uniform(0.0, 0.3))
        child.process.kill()
        lines = first + child.join()[0]
        repo = check_repository(directory, lineage=attempt % 5 == 4)
        done = [line[1] for line in lines if line[0] == "done"]
        if done:  # what was reported is the tip, or the one after it, which was not reported any more
            assert repo.commit(repo.resolve("run")).message in sources[len(done) - 1 :]
        reached.add(len(done))
    commit(repo, str(world / "tuned-0"), base="base", draft=Draft("run", signature=WHEN))
    commit(repo, str(world / "tuned-1"), base="base", draft=Draft("run", signature=WHEN))
    checkout_files(repo, "run", directory / "out")
    assert (directory / "out" / "model.safetensors").read_bytes() == (
        world / "tuned-1" / "model.safetensors"
    ).read_bytes()
    assert len(reached) > 1, "every process came equally far: the moments do not vary"


def test_interrupted_at_random_moments(world, directory):
    """Ctrl-C: the process ends by it, soon, and leaves the old or the new state and a clean tmp/."""
    rng = random.Random(2)
    ended = set()
    sources = [world / f"tuned-{i}" for i in range(6)]
    undisturbed = Child(directory, "timed", sources)
    start = time.monotonic()
    undisturbed.go()
    undisturbed.join()
    length = time.monotonic() - start
    for attempt in range(6):
        child = Child(directory, f"run-{attempt}", sources)
        child.go()
        time.sleep(rng.uniform(0.0, 0.8 * length))
        child.process.send_signal(signal.SIGINT)
        lines, err = child.join(timeout=20)  # it does not hang
        assert child.process.returncode in (0, -signal.SIGINT)
        if len(lines) < len(sources):  # else it was done, and Python itself was interrupted while it ended
            assert child.process.returncode and "KeyboardInterrupt" in err.splitlines()[-1]
            ended.add(child.process.returncode)
        assert not list((directory / ".dvx" / "tmp").iterdir())
        check_repository(directory, lineage=attempt == 5)
    assert -signal.SIGINT in ended


def test_two_processes_on_different_branches(world, directory):
    children = [
        Child(directory, "left", [world / f"tuned-{i}" for i in (0, 1, 2)]),
        Child(directory, "right", [world / f"tuned-{i}" for i in (2, 3, 4)]),
    ]
    for child in children:
        child.go()
    for child in children:
        lines, err = child.join()
        assert [line[0] for line in lines] == ["done"] * 3, (lines, err)
    repo = check_repository(directory)
    for name, last in (("left", 2), ("right", 4)):
        for back in range(3):
            checkout_files(repo, f"{name}~{back}", directory / f"{name}-{back}")
            source = world / f"tuned-{last - back}" / "model.safetensors"
            assert (directory / f"{name}-{back}" / "model.safetensors").read_bytes() == source.read_bytes()


def test_two_processes_on_one_branch_lose_nothing(world, directory):
    """Each commit is in the branch's history, or its process was told that the ref had moved."""
    children = [
        Child(directory, "run", [world / f"tuned-{i}" for i in (0, 1, 2)]),
        Child(directory, "run", [world / f"tuned-{i}" for i in (3, 4, 5)]),
    ]
    for child in children:
        child.go()
    done = []
    for child in children:
        lines, err = child.join()
        assert len(lines) == 3, err
        for line in lines:
            if line[0] == "done":
                done.append(line[1])
            else:
                assert line[1] == "ref-moved"
    repo = check_repository(directory)
    messages = []
    at = repo.resolve("run")
    while at is not None:
        messages.append(repo.commit(at).message)
        at = repo.commit(at).parent_as("previous")
    assert sorted(messages) == sorted(done) and len(done) >= 3


def test_a_reader_beside_a_writer(world, directory):
    """A handle that was opened before sees every commit that is made after, without any lock."""
    repo = open_repository(directory)
    repo.manifest(repo.resolve("base"))
    child = Child(directory, "run", [world / f"tuned-{i}" for i in range(6)])
    child.go()
    seen = set()
    while child.process.poll() is None or len(seen) < 6:
        tip = repo.refs.all("refs/heads").get("refs/heads/run")
        if tip is not None and tip not in seen:
            out = directory / f"out-{len(seen)}"
            checkout_files(repo, tip, out)
            data = (out / "model.safetensors").read_bytes()
            assert data in [(world / f"tuned-{i}" / "model.safetensors").read_bytes() for i in range(6)]
            seen.add(tip)
        elif child.process.poll() is not None:
            break
    lines, err = child.join()
    assert [line[0] for line in lines] == ["done"] * 6, err
    assert seen


def test_commit_while_garbage_is_collected(world, directory):
    for i in (0, 1):  # garbage: a branch that is deleted
        commit(
            open_repository(directory),
            str(world / f"tuned-{i}"),
            base="base",
            draft=Draft("old", signature=WHEN),
        )
    repo = open_repository(directory)
    repo.refs.move("refs/heads/old", expected=repo.resolve("old"), new=_absent(), signature=WHEN)
    child = Child(directory, "run", [world / f"tuned-{i}" for i in (1, 2, 3, 4)])
    child.go()
    while child.process.poll() is None:
        with contextlib.suppress(ConflictError):  # the child is writing
            gc.gc(open_repository(directory), grace_days=0)
        time.sleep(0.05)  # locks are not fair
    lines, err = child.join()
    assert [line[0] for line in lines] == ["done"] * 4, (lines, err)
    repo = check_repository(directory)
    gc.gc(repo, grace_days=0)
    check_repository(directory)
    checkout_files(repo, "run", directory / "out")


def _absent():
    from deltavcs.refs import ABSENT

    return ABSENT


def test_a_read_only_repository_can_be_read(world, directory):
    repo_files = [directory / ".dvx", *(directory / ".dvx").rglob("*")]
    if os.geteuid() == 0:
        pytest.skip("root writes anywhere")
    for path in repo_files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        checkout_files(open_repository(directory), "base", directory.parent / "out")
    finally:
        for path in repo_files:
            path.chmod(0o755 if path.is_dir() else 0o644)

"""A process that is killed while it changes a checked-out directory: the next update mends what it left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deltavcs.checkpoint.marker import Marker, read_marker, read_state
from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint

TENSORS = {"a": raw_tensor("BF16", [30, 20]), "b": raw_tensor("BF16", [30, 20], seed=1)}
CHANGES = ((Path, "replace"), (Path, "unlink"), (Path, "rmdir"), (Path, "mkdir"))


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Repository:
    root = tmp_path_factory.mktemp("killed")
    found = init_repository(root, sync=False)
    write_checkpoint(root / "one", TENSORS, files={"config.json": b"{}", "only/one.txt": b"1"})
    write_checkpoint(root / "two", TENSORS, shards=2, files={"config.json": b"{ }", "new/two.txt": b"2"})
    for name in ("one", "two"):
        import_base(found, str(root / name))
    return found


def files(folder: Path) -> dict[str, bytes]:
    found = (x for x in folder.rglob("*") if x.is_file())
    return {str(x.relative_to(folder)): x.read_bytes() for x in found if x.name != ".dvx-checkout.json"}


def killed(repo: Repository, name: str, out: Path, at: int, **how: bool) -> bool:
    """Check out in a process that is killed before its change number `at`; False if it had fewer."""
    child = os.fork()
    if child == 0:
        left = [at]

        def counted(real):
            def call(*args, **kwargs):
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*args, **kwargs)

            return call

        for owner, call in CHANGES:
            setattr(owner, call, counted(getattr(owner, call)))
        try:
            checkout_files(open_repository(repo.path.parent), name, out, **how)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("then", ["one", "two"])
def test_an_update_mends_what_a_killed_one_left(repo, tmp_path, then) -> None:
    sources = {name: files(repo.path.parent / name) for name in ("one", "two")}
    at, states = 0, set()
    while True:
        out = tmp_path / str(at)
        checkout_files(repo, "one", out)
        (out / "mine.txt").write_text("mine")
        dead = killed(repo, "two", out, at, update=True)
        state = read_state(out)
        states.add(type(state))
        if isinstance(state, Marker):
            # What the marker says is there is there.
            assert files(out).items() >= sources[state.revision].items()
        else:
            assert read_marker(out) is None
            with pytest.raises(InvalidInputError, match="two checkpoints"):
                import_base(repo, str(out))
        done = checkout_files(repo, then, out, update=True)
        assert files(out) == sources[then] | {"mine.txt": b"mine"}
        assert {x.name for x in out.iterdir() if x.is_dir()} == {"only" if then == "one" else "new"}
        assert set(done.changed) | set(done.kept) == sources[then].keys()
        if not dead:
            break
        at += 1
    assert at > 8
    assert len(states) == 2


def test_a_killed_checkout_into_an_empty_directory_can_be_forced(repo, tmp_path) -> None:
    expected = files(repo.path.parent / "two")
    at = 0
    while True:
        out = tmp_path / str(at)
        out.mkdir()
        dead = killed(repo, "two", out, at)
        checkout_files(repo, "two", out, force=True)
        assert files(out) == expected
        if not dead:
            break
        at += 1
    assert at > 4

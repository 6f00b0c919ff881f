"""Algorithm 1: what it computes, and that it ends the same however often it is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltavcs.errors import AlreadyExistsError, ConflictError, ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.recycle import recycle
from deltavcs.refs.store import Signature
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.testing.invariants import check_repository

DRIVER = Path(__file__).parent / "recycle_driver.py"
NOW = 1_700_000_000_000_000


def base(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(8, 8)).astype(np.float32), "b": rng.normal(size=8).astype(np.float32)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    repo = init_repository(tmp_path / "repo", sync=False)
    for i in (1, 2, 3):
        folder = tmp_path / f"m{i}"
        folder.mkdir()
        save_file(base(i), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"version": i}))
        import_base(repo, str(folder), name=f"m{i}", signature=Signature("tester", NOW + i))
    return tmp_path


def tuned(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: (v * np.float32(0.9) + np.float32(0.01)).astype(np.float32) for k, v in model.items()}


def added(
    target: dict[str, np.ndarray], a: dict[str, np.ndarray], b: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        k: (v.astype(np.float64) + (a[k].astype(np.float64) - b[k].astype(np.float64))).astype(np.float32)
        for k, v in target.items()
    }


def expected(mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Algorithm 1 in numpy, from the paper."""
    m = {i: base(i) for i in (1, 2, 3)}
    out = {"run/m1": tuned(m[1])}
    out["run/m2.init"] = added(m[2], out["run/m1"], m[1])
    out["run/m2"] = tuned(out["run/m2.init"])
    carried = out["run/m2"]
    if mode == "direct":
        carried = out["run/m2.plain"] = tuned(m[2])
    out["run/m3.init"] = added(m[3], carried, m[2])
    out["run/m3"] = tuned(out["run/m3.init"])
    return out


def drive(root: Path, mode: str = "iterative", die_at: int = 0) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(root), mode, str(die_at)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def heads(root: Path) -> dict[str, str]:
    return open_repository(root / "repo").refs.all("refs/heads")


@pytest.mark.parametrize("mode", ["iterative", "direct"])
def test_algorithm_1(root: Path, mode: str) -> None:
    status, text = drive(root, mode)
    assert status == 0, text
    repo = open_repository(root / "repo")
    wanted = expected(mode)
    assert {h.removeprefix("refs/heads/") for h in heads(root)} == wanted.keys() | {"m1", "m2", "m3"}
    for i, (name, arrays) in enumerate(wanted.items()):
        checkout_files(repo, name, root / f"out{i}")
        found = load_file(root / f"out{i}" / "model.safetensors")
        assert all(np.array_equal(found[k], v) for k, v in arrays.items()), name
    value = repo.commit(repo.resolve("run/m3"))
    assert value.kind is Kind.FINETUNE
    assert value.parent_as(Role.BASE) == repo.resolve("m3")
    assert value.parent_as("init") == repo.resolve("run/m3.init")
    delta = repo.commit(repo.resolve("run/m3.init")).parent_as(Role.DELTA)
    assert delta == repo.resolve("run/m2" if mode == "iterative" else "run/m2.plain")
    assert not (root / "work").exists()
    check_repository(root / "repo")


def fresh(root: Path, saved: Path) -> None:
    """Back to the three bases; same paths, since a commit names where its files came from."""
    for name in ("repo", "work", "deaths"):
        shutil.rmtree(root / name, ignore_errors=True)
    shutil.copytree(saved, root / "repo")


def test_killed_in_every_training(root: Path) -> None:
    saved = root / "saved"
    shutil.copytree(root / "repo", saved)
    status, text = drive(root)
    assert status == 0, text
    wanted = heads(root)
    for training in (1, 2, 3):
        fresh(root, saved)
        (root / "deaths").mkdir()
        (root / "deaths" / str(training)).touch()
        status, text = drive(root)
        assert status == -9, text
        status, text = drive(root)
        assert status == 0, text
        assert heads(root) == wanted
        # Trainings that were finished before are not repeated: three, and the one that died.
        assert len((root / "deaths" / "log").read_text().splitlines()) == 4
        check_repository(root / "repo")


def test_killed_at_writes_all_along(root: Path) -> None:
    """kill -9 at every n-th change of the repository, again and again until the run is through."""
    saved = root / "saved"
    shutil.copytree(root / "repo", saved)
    status, text = drive(root)
    assert status == 0, text
    wanted = heads(root)
    n_steps = int(text.split("steps ")[1])
    fresh(root, saved)
    stride = max(11, n_steps // 12)
    for die_at in range(3, n_steps, stride):
        status, text = drive(root, die_at=die_at)
        if status == 0:
            break
        assert status == -9, text
    status, text = drive(root)
    assert status == 0, text
    assert heads(root) == wanted
    assert len((root / "deaths" / "log").read_text().splitlines()) <= 3 + n_steps // stride
    check_repository(root / "repo")


def call(repo: Repository, root: Path, runner, command: str = "train {init} {out}", **more):
    return recycle(
        repo, ["m1", "m2"], command, name="run", work=root / "work", author="t", clock=lambda: NOW,
        runner=runner, **more,
    )  # fmt: skip


class Trainer:
    """Runs in this process; fails where told."""

    def __init__(self, fail_at: int = 0, status: int = 7, writes: str = "model") -> None:
        self.calls: list[list[str]] = []
        self.fail_at, self.status, self.writes = fail_at, status, writes

    def __call__(self, words: list[str]) -> int:
        self.calls.append(list(words))
        init, out = Path(words[1]), Path(words[2])
        if len(self.calls) == self.fail_at:
            return self.status
        if self.writes == "model":
            out.mkdir()
            save_file(tuned(load_file(init / "model.safetensors")), out / "model.safetensors")
            shutil.copy(init / "config.json", out)
        elif self.writes == "adapter":
            out.mkdir()
            (out / "adapter_config.json").write_text("{}")
        return 0


def test_resumes_at_the_stage_that_failed(root: Path) -> None:
    repo = open_repository(root / "repo")
    with pytest.raises(InvalidInputError) as caught:
        call(repo, root, Trainer(fail_at=2))
    assert caught.value.kind is ErrorKind.COMMAND_FAILED
    assert "status 7" in str(caught.value)
    trainer = Trainer()
    done = call(repo, root, trainer)
    assert len(trainer.calls) == 1
    assert [r.reused for r in done.stages] == [True, True, False]
    again = Trainer()
    assert all(r.reused for r in call(repo, root, again).stages)
    assert again.calls == []


def test_a_training_that_was_not_committed_is_not_repeated(root: Path, monkeypatch) -> None:
    repo = open_repository(root / "repo")
    monkeypatch.setattr("deltavcs.porcelain.recycle.commit", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(repo, root, Trainer())
    monkeypatch.undo()
    trainer = Trainer()
    call(repo, root, trainer)
    assert len(trainer.calls) == 1


def test_dry_run_says_what_is_left(root: Path) -> None:
    repo = open_repository(root / "repo")
    planned = call(repo, root, Trainer(), dry_run=True)
    assert [r.stage.branch for r in planned.stages] == ["run/m1", "run/m2.init", "run/m2"]
    assert [r.commit for r in planned.stages] == [None] * 3
    assert not (root / "work").exists()
    with pytest.raises(InvalidInputError):
        call(repo, root, Trainer(fail_at=2))
    planned = call(repo, root, Trainer(), dry_run=True)
    assert [r.reused for r in planned.stages] == [True, True, False]


def test_another_command_is_another_run(root: Path) -> None:
    repo = open_repository(root / "repo")
    call(repo, root, Trainer())
    with pytest.raises(AlreadyExistsError) as caught:
        call(repo, root, Trainer(), command="train {init} {out} --lr 1")
    assert caught.value.kind is ErrorKind.REF_EXISTS


@pytest.mark.parametrize("writes", ["nothing", "adapter"])
def test_a_command_that_writes_no_model(root: Path, writes: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call(open_repository(root / "repo"), root, Trainer(writes=writes))
    assert caught.value.kind is ErrorKind.COMMAND_FAILED


@pytest.mark.parametrize("command", ["train {init}", "train 'oops {init} {out}", ""])
def test_malformed_commands(root: Path, command: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call(open_repository(root / "repo"), root, Trainer(), command=command)
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_paths_with_spaces_stay_one_word(root: Path) -> None:
    repo = open_repository(root / "repo")
    trainer = Trainer()
    recycle(
        repo, ["m1"], "train {init} {out} --note='{base} {stage}'", name="run", work=root / "a b; c",
        author="t", clock=lambda: NOW, runner=trainer,
    )  # fmt: skip
    assert len(trainer.calls[0]) == 4
    assert "a b; c" in trainer.calls[0][1]
    assert trainer.calls[0][3] == "--note=m1 1"


def test_two_runs_at_once(root: Path) -> None:
    repo = open_repository(root / "repo")

    def nested(words: list[str]) -> int:
        call(open_repository(root / "repo"), root, Trainer())
        return 0

    with pytest.raises(ConflictError):
        call(repo, root, nested)

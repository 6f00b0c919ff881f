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
from deltavcs.identity import Identity
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.branch import branch, delete_branch
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.recycle import Training, recycle, run_command
from deltavcs.porcelain.tag import tag
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.steps.stages import Stage, plan_stages
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
        import_base(repo, str(folder), draft=Draft(f"m{i}", signature=Signature("tester", NOW + i)))
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


def drive(root: Path, mode: str = "iterative", die_at: int | str = 0) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(root), mode, str(die_at)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def heads(root: Path) -> dict[str, str]:
    """The commit id of every branch: two runs of the same author and clock must agree in all of them."""
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


@pytest.mark.parametrize("mode", ["iterative", "direct"])
def test_killed_several_times_in_every_stage(root: Path, mode: str) -> None:
    """kill -9 in the training, before anything is stored, and before and after the branch moves."""
    saved = root / "saved"
    shutil.copytree(root / "repo", saved)
    status, text = drive(root, mode)
    assert status == 0, text
    wanted = heads(root)
    n_stages = len(wanted) - 3
    fresh(root, saved)
    (root / "deaths").mkdir()
    kinds = [
        "training",
        "transfer",
        "training",
        *(["training"] if mode == "direct" else []),
        "transfer",
        "training",
    ]
    assert len(kinds) == n_stages
    n_trainings = 0
    for stage, kind in enumerate(kinds, start=1):
        if kind == "training":
            (root / "deaths" / str(n_trainings + 1)).touch()
            n_trainings += 2
            status, text = drive(root, mode)
            assert status == -9, text
        for moment in ("mkdir tmp", "rename refs", "sync refs"):
            status, text = drive(root, mode, f"{stage} {moment}")
            assert status == -9, text
        assert len(heads(root)) == 3 + stage
        assert len((root / "deaths" / "log").read_text().splitlines()) == n_trainings
    status, text = drive(root, mode)
    assert status == 0, text
    assert text.count("reused") == n_stages
    assert heads(root) == wanted
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


def call(
    repo: Repository,
    root: Path,
    runner,
    command: str = "train {init} {out}",
    *,
    watch=lambda *_: None,
    **more,
):
    training = Training(command, root / "work", run=runner, watch=watch)
    return recycle(
        repo.using(identity=Identity("t", lambda: NOW)), ["m1", "m2"], training, name="run", **more
    )


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
    monkeypatch.setattr("deltavcs.porcelain.recycle.commit_source", lambda *a, **k: 1 / 0)
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
    training = Training("train {init} {out} --note='{base} {stage}'", root / "a b; c", run=trainer)
    recycle(repo, ["m1"], training, name="run")
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


def test_another_name_of_a_base_hides_no_stage(root: Path) -> None:
    repo = open_repository(root / "repo")
    first = call(repo, root, Trainer())
    for name in ("aaa", "m1-too"):
        branch(repo, name, "m1", signature=Signature("tester", NOW))
    trainer = Trainer()
    again = call(repo, root, trainer)
    assert trainer.calls == []
    assert [r.commit for r in again.stages] == [r.commit for r in first.stages]


def branches_of(repo: Repository, *bases: str) -> list[str]:
    return [s.branch for s in plan_stages(repo, bases, "run", iterative=True)]


def test_branches_are_called_as_the_user_wrote(root: Path) -> None:
    repo = open_repository(root / "repo")
    for i in (1, 2):
        branch(repo, f"aaa{i}", f"m{i}", signature=Signature("tester", NOW))
        tag(repo, f"v{i}", f"m{i}", signature=Signature("tester", NOW))
    tag(repo, "m1", "m1", signature=Signature("tester", NOW))
    ids = [repo.resolve(f"m{i}") for i in (1, 2)]
    assert branches_of(repo, "m1", "v2") == ["run/m1", "run/v2.init", "run/v2"]
    assert branches_of(repo, "tags/m1") == ["run/tags/m1"]
    # Any prefix of an id, however long, is the same base.
    for n in (8, 20, 64):
        wanted = [f"run/{ids[0][:12]}", f"run/{ids[1][:12]}.init", f"run/{ids[1][:12]}"]
        assert branches_of(repo, ids[0][:n], ids[1][:n]) == wanted
    call(repo, root, Trainer())
    assert branches_of(repo, "run/m2~1") == ["run/run/m2-1"]
    step = f"{repo.resolve('run/m2')[:10]}~"
    assert branches_of(repo, step) == [f"run/{ids[1][:12]}"]


def test_one_base_twice(root: Path) -> None:
    repo = open_repository(root / "repo")
    branch(repo, "aaa", "m1", signature=Signature("tester", NOW))
    for bases in (("m1", "m1"), ("m1", "aaa"), ("m1", "m2", repo.resolve("m1")[:9])):
        with pytest.raises(InvalidInputError, match="named twice") as caught:
            branches_of(repo, *bases)
        assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_bases_whose_results_get_in_each_others_way(root: Path) -> None:
    repo = open_repository(root / "repo")
    for i, name in ((1, "x.init"), (2, "x"), (3, "y/z")):
        branch(repo, name, f"m{i}", signature=Signature("tester", NOW))
    tag(repo, "y", "m1", signature=Signature("tester", NOW))
    for bases in (("x.init", "x"), ("y/z", "x", "x.init"), ("y", "y/z")):
        with pytest.raises(InvalidInputError, match="each other's way") as caught:
            branches_of(repo, *bases)
        assert caught.value.kind is ErrorKind.BAD_ARGUMENT


@pytest.mark.parametrize("taken", ["run/m2.init", "run/m2", "run/m2/x", "run"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_branch_in_the_way_is_noticed_before_any_training(root: Path, taken: str, dry_run: bool) -> None:
    repo = open_repository(root / "repo")
    branch(repo, taken, "m3", signature=Signature("tester", NOW))
    trainer = Trainer()
    with pytest.raises(AlreadyExistsError, match=taken) as caught:
        call(repo, root, trainer, dry_run=dry_run)
    assert caught.value.kind is ErrorKind.REF_EXISTS
    assert trainer.calls == []
    assert heads(root).keys() == {f"refs/heads/{name}" for name in ("m1", "m2", "m3", taken)}


def test_a_base_that_moved_is_noticed_before_any_training(root: Path) -> None:
    repo = open_repository(root / "repo")
    call(repo, root, Trainer())
    save_file(base(9), root / "m2" / "model.safetensors")
    import_base(repo, str(root / "m2"), draft=Draft("m2", signature=Signature("tester", NOW), force=True))
    trainer = Trainer()
    with pytest.raises(AlreadyExistsError, match=r"run/m2\.init .*its base is another commit"):
        call(repo, root, trainer)
    assert trainer.calls == []


def test_what_is_different_is_said(root: Path) -> None:
    repo = open_repository(root / "repo")
    call(repo, root, Trainer())
    with pytest.raises(AlreadyExistsError, match=r"its command is 'train \{init\} \{out\}'"):
        call(repo, root, Trainer(), command="train {init} {out} --lr 1")
    with pytest.raises(AlreadyExistsError, match="its mode is 'iterative'"):
        call(repo, root, Trainer(), iterative=False)
    delete_branch(repo, "run/m2.init", signature=Signature("tester", NOW))
    with pytest.raises(AlreadyExistsError, match=r"another commit than run/m2\.init"):
        call(repo, root, Trainer())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program {init} {out}", "could not be run: No such file or directory: no-such-program"),
        ("sh -c 'kill -9 $$' {init} {out}", "was killed by SIGKILL"),
        ("sh -c 'exit 3' {init} {out}", "ended with status 3"),
    ],
)
def test_how_a_command_failed(root: Path, command: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"stage 1 .*{said}") as caught:
        call(open_repository(root / "repo"), root, run_command, command=command)
    assert caught.value.kind is ErrorKind.COMMAND_FAILED


def test_an_interrupt_says_how_to_go_on(root: Path) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    repo = open_repository(root / "repo")
    with pytest.raises(KeyboardInterrupt, match="repeat the command"):
        call(repo, root, interrupted)
    assert not any(r.reused for r in call(repo, root, Trainer()).stages)


def test_the_watcher_is_told_what_begins(root: Path) -> None:
    repo = open_repository(root / "repo")
    told: list[tuple[int, int]] = []

    def watch(stage: Stage, n_stages: int) -> None:
        told.append((stage.position, n_stages))

    with pytest.raises(InvalidInputError):
        call(repo, root, Trainer(fail_at=2), watch=watch)
    call(repo, root, Trainer(), watch=watch)
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)]

"""The commands of this folder's verbs, as users type them: lines, JSON documents, exit statuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from toys import build_model, copy_task, perturbed, save

from dvx.app import cli


class Shell:
    """Runs `dvx` in this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *words: str, status: int = 0) -> str:
        """What it prints; `notes` is what it says beside that."""
        done = CliRunner().invoke(cli, [str(w) for w in words])
        assert done.exit_code == status, f"{words}: {done.exit_code}\n{done.output}\n{done.stderr}"
        self.notes = done.stderr
        return done.stdout

    def json(self, *words: str, status: int = 0) -> dict:
        return json.loads(self(*words, "--json", status=status))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shell")
    model = build_model(0)
    save(model, root / "base")
    save(perturbed(model, 7, 0.01), root / "base2")
    for i in (1, 2, 3):
        save(perturbed(model, i), root / f"r{i}")
    copy_task(root / "rows.jsonl", ["cat", "dog"])
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        patched.setenv("DVX_AUTHOR", "tester")
        shell = Shell(root)
        shell("init")
        for base in ("base", "base2"):
            shell("import", base)
        for i in (1, 2, 3):
            shell("commit", f"r{i}", "--base", "base", "--meta", f"n={i}")
    return root


@pytest.fixture
def dvx(built: Path, tmp_path: Path, monkeypatch) -> Shell:
    shutil.copytree(built, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setenv("DVX_AUTHOR", "tester")
    shell = Shell(tmp_path / "w")
    shell("task", "add", "animals", "--file", "rows.jsonl")
    return shell


def test_task(dvx: Shell) -> None:
    assert "own" in dvx("task", "list")
    names = [t["name"] for t in dvx.json("task", "list")["tasks"]]
    assert names[0] == "animals"
    assert "piqa" in names
    assert "→ " in dvx("task", "show", "animals")
    assert dvx.json("task", "show", "animals")["n_rows"] == 40
    dvx("task", "add", "animals", "--file", "rows.jsonl", status=1)
    dvx("task", "remove", "animals")
    dvx("task", "show", "animals", status=1)


def test_rank(dvx: Shell) -> None:
    found = dvx.json("rank", "--task", "animals", "--samples", "8", "--device", "cpu")
    assert [r["rank"] for r in found["ranked"]] == [1, 2, 3, 4, 5]
    assert not any(r["recalled"] for r in found["ranked"])
    text = dvx("rank", "--task", "animals", "--samples", "8", "--k", "2")
    assert "3 more" in text
    assert "5 known before" in text
    rows = dvx.json("sql", "SELECT count(*) AS n FROM scores")
    assert "5" in json.dumps(rows)
    assert "animals" in dvx("log")
    dvx("rank", "--task", "nonsense", status=1)
    dvx("rank", status=2)
    dvx("rank", "--task", "animals", "--for", "base", status=2)
    dvx("rank", "--task", "animals", "--where", "oops", status=1)
    dvx("rank", "--for", "base2", "--where", "true", status=2)
    dvx("rank", "--task", "animals", "--device", "nosuch", status=1)
    if not torch.cuda.is_available():
        dvx("rank", "--task", "animals", "--samples", "3", "--device", "cuda", status=1)
    assert len(dvx.json("rank", "--for", "base2", "--k", "1")["ranked"]) == 1
    deltas = dvx.json("rank", "--for", "base2")
    assert {r["source_name"] for r in deltas["ranked"]} == {"base"}
    assert "nearest source base first" in dvx("rank", "--for", "base2")


def test_what_cannot_be_ranked_is_named(dvx: Shell) -> None:
    (dvx.directory / "r1" / "config.json").unlink()
    dvx("commit", "r1", "--base", "base", "--as", "bare")
    # The same weights without a configuration are another checkpoint.
    text = dvx("rank", "--task", "animals", "--samples", "4", status=3)
    assert "not ranked: bare" in text


def test_merge(dvx: Shell) -> None:
    text = dvx("merge", "r1", "r2", "--method", "ties", "--density", "0.3,0.5", "--as", "m")
    assert "ties of r1, r2 over base" in text
    assert "density 0.3 0.5" in text
    found = dvx.json("merge", "r1", "r2", "--method", "dare", "--seed", "3", "--as", "n")
    assert found["parameters"]["seed"] == 3
    assert "seed=3" in dvx.json("show", "n")["recipe"]
    dvx("merge", "r1", "r2", "--method", "ties", "--seed", "3", "--as", "x", status=2)
    dvx("merge", "r1", "r2", "--samples", "3", "--as", "x", status=2)
    assert dvx.json("merge", "r1", "r2", "--method", "task_arithmetic", "--as", "t")["base"]
    assert not found["recorded"]["nonfinite"]
    assert found["recorded"]["kind"] == "merge"
    assert "dry run" in dvx("merge", "r1", "r2", "--as", "x", "--dry-run")
    dvx("show", "x", status=1)
    dvx("merge", "r1", "r2", "--method", "weighted", "--as", "x", status=1)
    dvx("merge", "r1", "r2", status=2)


def test_a_merge_that_leaves_the_range_is_told(dvx: Shell) -> None:
    for name, model in (("half", build_model(0)), ("h1", perturbed(build_model(0), 1, 0.5))):
        save(model.half(), dvx.directory / name)
    dvx("import", "half", "--as", "half")
    dvx("commit", "h1", "--base", "half", "--as", "h1")
    merge = ("merge", "h1", "h1", "--method", "task-arithmetic", "--scale", "1e6", "--as", "huge")
    dvx(*merge)
    told = next(line for line in dvx.notes.splitlines() if "became Inf or NaN" in line)
    assert "model.embed_tokens.weight (" in told


def test_merge_by_statistics(dvx: Shell) -> None:
    found = dvx.json(
        "merge", "r1", "r2", "--method", "fisher", "--task", "animals", "--samples", "4", "--device", "cpu",
        "--as", "f",
    )  # fmt: skip
    assert found["method"] == "fisher"


def test_mashup(dvx: Shell) -> None:
    words = ("mashup", "--task", "animals", "--samples", "8", "--device", "cpu", "--as", "init")
    found = dvx.json(*words)
    assert found["merged"]["method"] == "average"
    assert len(found["merged"]["inputs"]) == 2
    assert all(r["kind"] != "base" for r in found["ranking"]["ranked"])
    assert "init" in dvx("lineage", "init")
    dvx("checkout", "init", "-o", "start")
    save(perturbed(build_model(0), 5), dvx.directory / "trained")
    shutil.copy(dvx.directory / "start" / ".dvx-checkout.json", dvx.directory / "trained")
    committed = dvx.json("commit", "trained")
    assert "init" in json.dumps(committed)
    dvx(*words[:-1], "many", "--k", "9", status=1)


def test_recycle(dvx: Shell) -> None:
    script = dvx.directory / "train.py"
    script.write_text("import shutil, sys\nprint('training')\nshutil.copytree(sys.argv[1], sys.argv[2])\n")
    words = ("recycle", "--bases", "base", "base2", "--train", f"{sys.executable} {script} {{init}} {{out}}",
             "--as", "rec")  # fmt: skip
    assert [s["commit"] for s in dvx.json(*words, "--dry-run")["stages"]] == [None] * 3
    bad = [w.replace("train.py", "absent.py") for w in words]
    dvx(*bad, status=1)
    assert [s["reused"] for s in dvx.json(*words)["stages"]] == [False] * 3
    assert [s["reused"] for s in dvx.json(*words)["stages"]] == [True] * 3
    assert "done before" in dvx(*words)
    dvx("recycle", "--bases", "base", "--train", "true", "--as", "y", status=1)


def test_connectivity(dvx: Shell) -> None:
    words = ("connectivity", "base", "r1", "--task", "animals", "--samples", "4", "--points", "3")
    text = dvx(*words, "--plot", "curve.svg")
    assert "barrier" in text
    assert (dvx.directory / "curve.svg").read_text().startswith("<svg")
    found = dvx.json(*words)
    assert len(found["curve"]["losses"]) == 3


def test_a_transfer_probes_the_way_between_its_bases(dvx: Shell) -> None:
    words = ("transfer", "--from", "r1", "--to", "base2", "--probe-task", "animals", "--dry-run")
    found = dvx.json(*words)["transfers"][0]["connectivity"]
    alone = dvx.json("connectivity", "base", "base2", "--task", "animals")
    assert found["curve"] == alone["curve"]
    assert len(found["curve"]["losses"]) == 11
    assert "barrier" in dvx(*words)

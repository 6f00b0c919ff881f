"""`dvx connectivity`: what is refused before anything is evaluated, its progress, and how it is drawn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from toys import build_model, copy_task, perturbed, save

from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.connectivity import connectivity
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.task import add_task
from deltavcs.repo import Repository, init_repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running
from dvx.app import cli

SIGN = Signature("tester", 1_700_000_000_000_000)
WORDS = ("connectivity", "base", "tuned", "--task", "animals", "--samples", "4", "--points", "3")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = init_repository(tmp_path, sync=False)
    model = build_model(0)
    import_base(made, save(model, tmp_path / "base"), draft=Draft("base", signature=SIGN))
    tuned = save(perturbed(model, 1), tmp_path / "tuned")
    commit(made, tuned, base="base", draft=Draft("tuned", signature=SIGN))
    add_task(made, "animals", copy_task(tmp_path / "rows.jsonl", ["cat", "dog"]), signature=SIGN)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize(
    ("plot", "said"),
    [
        ("x.png", "'x.png' does not end in .svg"),
        ("x.PDF", "does not end in .svg"),
        ("curve", "--plot curve.svg"),
        ("", "does not end in .svg"),
        ("absent/x.svg", "there is no folder 'absent'"),
        ("rows.jsonl/x.svg", "there is no folder 'rows.jsonl'"),
        ("folder.svg", "is a directory"),
    ],
)
def test_a_plot_that_cannot_be_made_is_refused_at_once(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, plot: str, said: str
) -> None:
    (repo.path.parent / "folder.svg").mkdir()
    monkeypatch.setattr("deltavcs.porcelain.connectivity.open_probe", lambda *a, **k: 1 / 0)
    done = CliRunner().invoke(cli, [*WORDS, "--plot", plot])
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(repo: Repository) -> None:
    (repo.path.parent / "shut").mkdir(mode=0o555)
    done = CliRunner().invoke(cli, [*WORDS, "--plot", "shut/x.svg"])
    assert done.exit_code == 2
    assert "may not be written to" in done.stderr


@pytest.mark.parametrize("plot", ["curve.svg", "CURVE.SVG"])
def test_a_plot(repo: Repository, plot: str) -> None:
    done = CliRunner().invoke(cli, [*WORDS, "--plot", plot])
    assert done.exit_code == 0, done.stderr
    assert f"drawn in {plot}" in done.stdout
    assert Path(plot).read_text(encoding="utf-8").startswith("<svg")


def test_progress_counts_rows(repo: Repository) -> None:
    """The bar says "rows": of all points together, and it never goes back."""
    seen: list[tuple[str, int, int]] = []
    resources = Resources(progress=lambda *now: seen.append(now))
    connectivity(
        repo.using(resources=resources), "base", "tuned", "animals", points=3, running=Running(samples=4)
    )
    assert {(stage, total) for stage, _, total in seen} == {("evaluating", 12)}
    done = [n for _, n, _ in seen]
    assert done == sorted(done)
    assert {4, 8, 12} <= set(done)


def test_ascii_where_the_terminal_knows_no_better(repo: Repository) -> None:
    found = connectivity(repo, "base", "tuned", "animals", points=3, running=Running(samples=4))
    drawn = found.text(ascii_only=True)
    assert drawn.isascii()
    assert [len(line) for line in drawn.splitlines()[:-1]] == [
        len(line) for line in found.text().splitlines()[:-1]
    ]
    done = CliRunner(charset="ascii").invoke(cli, list(WORDS))
    assert done.exit_code == 0, done.stderr
    assert "base -> tuned" in done.stdout
    assert "?" not in done.stdout

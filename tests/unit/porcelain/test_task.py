"""Where a task's rows come from: the path that is kept, and what is said once it leads nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.task import Wording, add_task, list_tasks, task
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature

SIGN = Signature("tester", 1_700_000_000_000_000)
ROW = '{"prompt": "x", "answer": "y"}\n'
CHOICE = '{"question": "x", "choices": ["a", "b"], "label": 0}\n'


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return init_repository(tmp_path / "r1", sync=False)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows" / "x.jsonl"
    path.parent.mkdir()
    path.write_text(ROW)
    return path


@pytest.mark.parametrize("given", ["../rows/x.jsonl", "./../rows/./x.jsonl", "../r1/../rows//x.jsonl"])
def test_the_path_is_kept_without_dots(
    repo: Repository, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path / "r1")
    assert add_task(repo, "t", Path(given), signature=SIGN).info.source == str(rows)
    assert list_tasks(repo)[0].source == str(rows)


def test_the_path_is_kept_with_its_links(repo: Repository, rows: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest.jsonl"
    link.symlink_to(rows)
    assert add_task(repo, "t", tmp_path / "r1/../latest.jsonl", signature=SIGN).info.source == str(link)


def test_dots_after_a_link_are_kept(repo: Repository, rows: Path, tmp_path: Path) -> None:
    (rows.parent / "below").mkdir()
    (tmp_path / "link").symlink_to(rows.parent / "below")
    (tmp_path / "x.jsonl").write_text(CHOICE)
    given = tmp_path / "link/../x.jsonl"  # rows/x.jsonl, not the other
    assert add_task(repo, "t", given, signature=SIGN).info.source == str(given)


@pytest.mark.parametrize(
    ("name", "content", "prompt", "advice"),
    [
        ("t", ROW, None, Advice.TASK_FILE_MOVED),
        ("t", ROW, "Q {prompt}", Advice.TEMPLATED_TASK_FILE_MOVED),
        ("piqa", CHOICE, None, Advice.TASK_FILE_MOVED),
    ],
)
def test_a_file_that_has_moved(
    repo: Repository, rows: Path, name: str, content: str, prompt: str | None, advice: Advice
) -> None:
    rows.write_text(content)
    before = add_task(repo, name, rows, signature=SIGN, wording=Wording(prompt=prompt))
    moved = rows.rename(rows.with_name("new.jsonl"))
    with pytest.raises(InvalidInputError) as caught:
        task(repo, name)
    assert caught.value.kind is ErrorKind.BAD_TASK
    assert str(caught.value) == f"{rows}: no such file (rows of task {name})"
    assert (caught.value.advice, caught.value.facts) == (advice, {"task": name})
    after = add_task(repo, name, moved, force=True, signature=SIGN, wording=Wording(prompt=prompt))
    assert after.fingerprint == before.fingerprint


def test_text_that_cannot_be_kept_is_refused(repo: Repository, rows: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^prompt is not UTF-8"):
        add_task(repo, "t", rows, signature=SIGN, wording=Wording(prompt="\udcff {prompt}"))
    odd = Path(os.fsdecode(os.fsencode(rows.parent) + b"/\xff.jsonl"))
    try:
        odd.write_text(ROW)
    except OSError:
        pytest.skip("this file system has only Unicode names")
    with pytest.raises(InvalidInputError, match=r"^file is not UTF-8"):
        add_task(repo, "t", odd, signature=SIGN)

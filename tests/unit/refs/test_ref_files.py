"""What lies among the refs and is none."""

from __future__ import annotations

import os

import pytest

from deltavcs.refs.ref_files import is_ref_key, list_ref_files

ID = "ab" * 32


@pytest.mark.parametrize(
    ("key", "is_ref"),
    [
        ("refs/heads/llama3.1", True),
        ("refs/heads/team/run+b", True),
        ("refs/tags/v1.0", True),
        (f"refs/scores/{ID}", True),
        ("refs/tasks/piqa", True),
        ("refs/heads/.DS_Store", False),
        ("refs/.DS_Store", False),
        ("refs/heads/.nfs0000a1", False),
        ("refs/heads/@eaDir/run@SynoEAStream", False),
        ("refs/heads/run~", False),
        ("refs/heads/run (conflicted copy)", False),
        ("refs/heads/run.lock", False),
        ("refs/scores/readme", False),
    ],
)
def test_names(key, is_ref):
    assert is_ref_key(key) is is_ref


def test_links_are_followed_and_a_loop_ends(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a").write_text(ID)
    heads = tmp_path / "refs" / "heads"
    heads.mkdir(parents=True)
    (heads / "team").symlink_to(elsewhere)
    (heads / "b").symlink_to(elsewhere / "a")
    (heads / "gone").symlink_to(tmp_path / "nowhere")
    (heads / "loop").symlink_to(heads)
    os.mkfifo(heads / "pipe")
    assert list_ref_files(tmp_path, "refs") == [
        f"refs/heads/{name}" for name in ("b", "gone", "pipe", "team/a")
    ]

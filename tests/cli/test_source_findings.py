"""What `dvx import` and `dvx commit` say of a source: what they left out, and what does not agree."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file


@pytest.fixture
def run(repo, models):
    """The folder of a training run, as trainers and people leave it."""
    root = repo / "run"
    shutil.copytree(models.chat, root)
    for name, data in {
        "optimizer.pt": b"1" * 3000,
        "training_args.bin": b"1" * 50,
        "pytorch_model.bin": b"1" * 70,
        "checkpoint-10/model.safetensors": b"1" * 2000,
        "notes/a.txt": b"1" * 5,
        "README.md": b"1",
        ".dvxignore": b"notes/\n",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_what_is_left_out_is_named_with_its_size(dvx, run):
    lines = dvx("commit", run, "--base", "v1", "--as", "r").stdout.splitlines()
    assert (
        "left out, --include takes it: optimizer.pt 2.9 KiB, checkpoint-10/ 2.0 KiB, training_args.bin 50 B"
        in lines
    )
    assert "left out, safetensors are there: pytorch_model.bin 70 B" in lines
    assert "left out by .dvxignore: notes/ 5 B" in lines
    files = {f["path"] for f in dvx.json("ls", "r")["files"]}
    assert files == {".dvxignore", "README.md", "config.json", "model.safetensors"}


def test_patterns_decide(dvx, run):
    told = ("--include", "optimizer.pt", "--include", "notes/", "--exclude", "*.md", "--exclude", "nothing.x")
    found = dvx.json("commit", run, "--base", "v1", "--as", "r", *told)
    assert {x["path"]: (x["cause"], x["size"]) for x in found["left_out"]} == {
        "README.md": ("excluded", 1),
        "checkpoint-10/": ("default", 2000),
        "pytorch_model.bin": ("superseded", 70),
        "training_args.bin": ("default", 50),
    }
    assert found["unmatched"] == ["nothing.x"]
    assert found["beside"] == ["optimizer.pt"]
    dvx("checkout", "r", "-o", "out")
    assert "unchanged" in dvx("status", "out").stdout
    assert "A file README.md" in dvx("status", run, "--base", "r").stdout
    again = dvx("commit", run, "--base", "v1", "--as", "r", *told).stdout
    assert "nothing to commit" in again and "left out by --exclude: README.md 1 B" in again
    assert "nothing matches nothing.x" in again
    error = dvx.error("import", run, "--exclude", "[z-a]", code=1)
    assert error["kind"] == "bad-argument"


def test_odd_files_do_not_refuse_the_rest(dvx, run, tmp_path):
    os.mkfifo(run / "pipe")
    (run / "gone").symlink_to("nowhere")
    (run / "new\nline").write_bytes(b"1")
    (run / os.fsdecode(b"\xff")).write_bytes(b"1")
    (tmp_path / "other.txt").write_text("x")
    (run / "linked.txt").symlink_to(tmp_path / "other.txt")
    shown = dvx("import", run, "--as", "r").stdout
    assert "warning: left out, not a regular file: pipe" in shown
    assert "warning: left out, a broken link: gone" in shown
    assert "warning: left out, a name that not every system can hold: new\\nline, \\udcff" in shown
    assert f"links lead out of the folder and were followed: linked.txt -> {tmp_path / 'other.txt'}" in shown
    dvx("checkout", "r", "-o", "out")
    assert (tmp_path / "out" / "linked.txt").read_text() == "x"


def test_a_folder_whose_path_is_no_text(dvx, process, repo, models):
    name = os.fsdecode(b"od\xffd")
    shutil.copytree(models.chat, repo / name)
    for told in (("import",), ("commit", "--base", "v1")):
        done = process(told[0], name, *told[1:], "--as", f"odd-{told[0]}", "--repo", repo, cwd=repo)
        assert done.returncode == 0, done.stderr
    done = process("import", name, "--repo", repo, cwd=repo)
    assert done.returncode == 1 and "Name the branch with --as NAME" in done.stderr
    assert "od\ufffdd" in dvx("reflog").stdout


def test_an_incomplete_checkpoint(dvx, repo):
    (repo / "part").mkdir()
    save_file({"w": np.zeros(4, np.float32)}, repo / "part" / "model-00001-of-00003.safetensors")
    error = dvx.error("import", "part", code=1)
    assert error["kind"] == "bad-checkpoint"
    assert (
        "model-00002-of-00003.safetensors, model-00003-of-00003.safetensors are missing" in error["message"]
    )
    assert "--allow-incomplete" in error["hint"]
    one = dvx.error("import", "part/model-00001-of-00003.safetensors", code=1)
    assert "are missing (1 of 3 shards are there)" in one["message"]
    shown = dvx("import", "part", "--allow-incomplete").stdout
    assert "warning: incomplete: model-00002-of-00003.safetensors" in shown
    assert dvx.json("import", "part", "--allow-incomplete", "--as", "p")["incomplete"]


def test_a_git_lfs_pointer(dvx, repo, models):
    shutil.copytree(models.chat, repo / "m")
    (repo / "m" / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    error = dvx.error("import", "m", code=1)
    assert "is a Git LFS pointer" in error["message"] and "git lfs pull" in error["hint"]


def test_shards_whose_index_does_not_agree(dvx, repo, models):
    values = load_file(models.chat / "model.safetensors")
    first, *rest = sorted(values)
    (repo / "m").mkdir()
    save_file({first: values[first], "x": values[first]}, repo / "m" / "a.safetensors")
    save_file(values, repo / "m" / "b.safetensors")
    index = {"weight_map": {first: "a.safetensors", **dict.fromkeys(rest, "b.safetensors")}}
    (repo / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    shown = dvx("import", "m", "--as", "r").stdout
    assert f"warning: {first} is in several shards: b.safetensors counts" in shown
    assert "the index says a.safetensors" in shown
    assert "not named by the index, but in its shards: x" in shown
    index["weight_map"] |= {first: "b.safetensors", "x": "a.safetensors"}
    (repo / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"in several shards, the index decides: {first}" in dvx("import", "m", "--as", "r").stdout


def test_models_in_other_formats(dvx, repo):
    (repo / "g").mkdir()
    (repo / "g" / "m.gguf").write_bytes(b"GGUF")
    assert "warning: no tensors: kept as files, whole" in dvx("import", "g").stdout
    assert dvx.json("import", "g/m.gguf", "--as", "one")["whole_files"] is True
    assert "holds no tensors" in dvx.error("transfer", "--from", "chat", "--to", "g", code=1)["message"]

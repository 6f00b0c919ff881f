"""Bad input: one line, a hint, the right code, no traceback, and the repository as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deltavcs.errors import ErrorKind
from dvx import exits


def snapshot(repo):
    return {
        p.relative_to(repo).as_posix(): p.read_bytes()
        for p in (repo / ".dvx").rglob("*")
        if p.is_file() and "index/" not in p.as_posix()
    }


@pytest.fixture
def unchanged(repo):
    """The repository; afterwards it must be what it was."""
    before = snapshot(repo)
    yield repo
    assert snapshot(repo) == before
    assert not list((repo / ".dvx/tmp").iterdir())


def test_every_kind_has_a_code():
    assert set(exits.CODES) == set(ErrorKind)
    assert set(exits.CODES.values()) <= set(exits.MEANINGS)


CASES = [
    (("show", "chta"), 1, "unknown-revision", "Did you mean chat"),
    (("show", "chat~9"), 1, "unknown-revision", "dvx log chat"),
    (("show", "chat~x"), 1, "bad-revision", "chat~2"),
    (("checkout", "v2 + (chat - ", "-o", "out"), 1, "bad-expression", "base + 0.8"),
    (("checkout", "v2 + 0.5 (chat - v1)", "-o", "out"), 1, "bad-expression", "base + 0.8"),
    (("checkout", "chat", "-o", "out", "--dtype", "int3"), 1, "bad-argument", "float32"),
    (("checkout", "chat", "-o", "full"), 1, "output-not-empty", "--force"),
    (("checkout", "chat", "-o", "out", "--merge-adapter"), 1, "bad-argument", "--merge-adapter"),
    (("transfer", "--from", "v2", "--to", "v1"), 1, "unknown-revision", "dvx commit DIR --base v2"),
    (("import", "nowhere"), 1, "unknown-source", None),
    (("import", "empty"), 1, None, None),
    (("import", "cut"), 1, "bad-header", None),
    (("import", "twice"), 1, "bad-checkpoint", None),
    (("commit", "cut", "--base", "v1"), 1, "bad-header", None),
    (("commit", "other", "--base", "v1"), 1, "incompatible", "--base"),
    (("commit", "other"), 1, "base-unknown", "--base REV"),
    (("commit", "full/v1", "--base", "v1", "--as", "a b"), 1, "bad-ref-name", "letters, digits"),
    (("commit", "full/v1", "--base", "v1", "--parent", "v1:No!"), 1, "bad-argument", "REV:ROLE"),
    (("commit", "full/v1", "--base", "v1", "--as", ""), 1, "bad-ref-name", "letters, digits"),
    (("import", "full/v1", "--meta", "x=1", "--meta", "x=2"), 2, "usage", "--help"),
    (("branch", "chat", "v1"), 1, "ref-exists", "--delete"),
    (("branch", "--delete", "nope"), 1, "unknown-ref", "dvx branch"),
    (("tag", "--delete", "nope"), 1, "unknown-ref", "dvx tag"),
    (("sql", "SELECT * FROM nothing"), 1, "bad-sql", "docs/sql.md"),
    (("sql", "SELEC 1"), 1, "bad-sql", "docs/sql.md"),
    (("sql", "DROP TABLE commits"), 1, "bad-sql", None),
    (("sql", "SELECT 1; SELECT 2"), 1, "bad-sql", None),
    (("log", "--repo", "full"), 10, "no-repository", "dvx init"),
    (("nonsense",), 2, "usage", "dvx --help"),
    (("comit",), 2, "usage", "dvx commit"),
    (("log", "--grap"), 2, "usage", "dvx log --help"),
    (("log", "-n", "none"), 2, "usage", "dvx log --help"),
    (("checkout", "chat"), 2, "usage", "dvx checkout --help"),
    (("branch", "new"), 2, "usage", "NAME REV"),
    (("branch", "--rename", "chat"), 2, "usage", "OLD NEW"),
    (("commit", "full/v1", "--memory", "lots"), 2, "usage", "dvx commit --help"),
    (("commit", "full/v1", "--memory", "1M"), 2, "usage", None),
    (("commit", "full/v1", "--meta", "novalue"), 2, "usage", None),
    (("transfer", "--from", "chat", "--to", "v2", "--scale", "nan"), 2, "usage", None),
    (("import", "/dev/null"), 1, None, None),
    (("import", "full/v1/config.json"), 1, "bad-checkpoint", "safetensors"),
    (("checkout", "chat", "-o", "full/v1/config.json"), 1, None, None),
    (("status", "nowhere"), 1, "unknown-source", None),
    (("index",), 2, None, None),
]


@pytest.fixture
def bad_sources(repo, models, make):
    """Sources with something wrong in them."""
    tensors, _, write_model = make
    (repo / "empty").mkdir()
    (repo / "full").mkdir()
    shutil.copytree(models.v1, repo / "full/v1")
    shutil.copytree(models.v1, repo / "cut")
    whole = (repo / "cut/model.safetensors").read_bytes()
    (repo / "cut/model.safetensors").write_bytes(whole[:-10])
    (repo / "twice").mkdir()
    for part in ("1", "2"):
        shutil.copy(models.v1 / "model.safetensors", repo / f"twice/model-{part}-of-2.safetensors")
    values = {k.replace("model.", "net."): v[:4] for k, v in tensors(9).items()}
    write_model(repo / "other", values)


@pytest.mark.parametrize(("args", "code", "kind", "hint"), CASES, ids=[" ".join(c[0]) for c in CASES])
def test_bad_input(bad_sources, unchanged, dvx, args, code, kind, hint):
    result = dvx(*args, code=code)
    assert result.stdout == ""
    if kind is None:
        return
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    if hint is not None:
        assert lines[-1].startswith("hint: ")
        assert hint in lines[-1]
    error = dvx.error(*args, code=code)
    assert error["kind"] == kind
    assert error["exit_code"] == code
    if kind != "bad-expression":
        assert len(lines) <= 2


def test_no_repository(folder, dvx):
    assert dvx.error("log", code=10)["kind"] == "no-repository"
    assert "dvx init" in dvx("log", code=10).stderr


def test_the_directory_is_gone(repo, dvx, monkeypatch):
    gone = repo / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert "does not exist any more" in dvx("log", code=1).stderr
    finally:
        os.chdir(repo)


def test_init_twice(unchanged, dvx):
    assert dvx.error("init", code=1)["kind"] == "repository-exists"


def test_an_ambiguous_prefix_is_told(repo, dvx, models):
    ids = {c["commit"][:4] for c in dvx.json("log")["commits"]}
    error = dvx.error("show", "0000", code=1)
    assert error["kind"] == "unknown-revision"
    assert dvx.json("show", ids.pop())["kind"]


def test_a_future_format(repo, dvx):
    file = repo / ".dvx/format"
    file.write_text(file.read_text().replace('"format": 1', '"format": 99'))
    assert dvx.error("log", code=13)["kind"] == "unsupported-version"
    assert "Upgrade" in dvx("log", code=13).stderr


def test_a_feature_that_forbids_writing(repo, dvx, models):
    file = repo / ".dvx/format"
    file.write_text(file.read_text().replace('"write": []', '"write": ["sparkle"]'))
    dvx("log")
    assert dvx.error("commit", models.code, "--base", "v1", code=13)["kind"] == "unsupported-feature"


def test_fsck_says_how_to_mend_a_pack_index(repo, dvx):
    index = next((repo / ".dvx/packs").glob("*.idx"))
    data = index.read_bytes()
    index.chmod(0o644)
    index.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = dvx.json("fsck", code=12)["problems"]
    assert problem == {
        "kind": "corrupt",
        "where": f"pack {index.name[:12]}",
        "detail": "its index does not agree with it; run 'dvx index rebuild'",
    }
    assert problem["detail"] in dvx("fsck", code=12).stdout
    dvx("index", "rebuild")
    assert dvx.json("fsck")["ok"]


def test_a_flipped_byte_names_commit_tensor_and_pack(repo, dvx):
    pack = max((repo / ".dvx/packs").glob("*.pack"), key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    assert dvx.json("fsck", "--full", code=12)["ok"] is False
    assert "problem" in dvx("fsck", "--full", code=12).stdout
    broken = 0
    for name in ("v1", "v2"):
        result = dvx._runner.invoke(__import__("dvx.app").app.cli, ["checkout", name, "-o", f"out-{name}"])
        if result.exit_code:
            broken += 1
            assert result.exit_code == 12
            assert pack.name[:12] in result.stderr
            assert "commit " in result.stderr and "model." in result.stderr
            assert not (repo / f"out-{name}").exists()
    assert broken == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_repository(repo, dvx, models):
    for p in (repo / ".dvx").rglob("*"):
        if p.is_dir():
            p.chmod(0o555)
    try:
        assert dvx.error("commit", models.code, "--base", "v1", code=14)["kind"] == "permission-denied"
    finally:
        for p in (repo / ".dvx").rglob("*"):
            if p.is_dir():
                p.chmod(0o755)


def test_stdout_is_full(repo):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dvx", "log"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 14
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(repo):
    script = f"{sys.executable} -m dvx sql 'SELECT * FROM range(200000)' | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "range" in done.stdout


def test_a_bug_is_one_line_and_a_traceback_on_request(folder, dvx, monkeypatch):
    def broken(self):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("dvx.session.Session.repository", broken)
    result = dvx("log", code=1)
    assert result.stderr.splitlines()[0] == "error: ZeroDivisionError: oh (this is a bug)"
    assert "DVX_DEBUG=1" in result.stderr
    monkeypatch.setenv("DVX_DEBUG", "1")
    result = dvx._runner.invoke(__import__("dvx.app").app.cli, ["log"])
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(("error", "word"), [(MemoryError(), "memory"), (RecursionError(), "nested")])
def test_exhaustion_is_no_bug(folder, dvx, monkeypatch, error, word):
    def broken(self):
        raise error

    monkeypatch.setattr("dvx.session.Session.repository", broken)
    stderr = dvx("log", code=1).stderr
    assert word in stderr
    assert "bug" not in stderr


def test_what_comes_from_a_repository_cannot_drive_the_terminal(repo, dvx, models):
    dvx("commit", models.code, "--base", "v1", "-m", "red \x1b[31m alert\u202e")
    for out in (dvx("log").stdout, dvx("show", "code").stdout):
        assert "\x1b" not in out
        assert "\\x1b[31m alert\\u202e" in out

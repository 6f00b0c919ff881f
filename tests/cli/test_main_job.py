"""The main job, as a user does it."""

import hashlib
import shutil

import numpy as np
from safetensors.numpy import load_file


def sums(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(".dvx")
    }


def test_every_file_comes_back(repo, dvx, models):
    for name, source in (("v1", models.v1), ("v2", models.v2), ("chat", models.chat)):
        out = dvx("checkout", name, "-o", f"out/{name}").stdout
        assert f"written to out/{name}" in out
        assert sums(repo / "out" / name) == sums(source)


def test_a_real_model_comes_back(folder, dvx, real_model):
    dvx("init")
    assert "imported as a base" in dvx("import", real_model, "--as", "v1").stdout
    dvx("checkout", "v1", "-o", "out")
    assert sums(folder / "out") == sums(real_model)


def test_transfer_is_the_sum(repo, dvx, models):
    dvx("checkout", "v2+chat", "-o", "out")
    got = load_file(repo / "out/model.safetensors")
    v1, v2, chat = (load_file(p / "model.safetensors") for p in (models.v1, models.v2, models.chat))
    for key, value in got.items():
        a, b, c = (m[key].astype(np.float64) for m in (v2, chat, v1))
        assert np.array_equal(value, (a + (b - c)).astype(np.float32))


def test_an_expression_is_the_transfer(repo, dvx):
    dvx("checkout", "v2+chat", "-o", "a")
    dvx("checkout", "v2 + (chat - v1)", "-o", "b")
    assert sums(repo / "a") == sums(repo / "b")


def test_commit_finds_the_base_and_says_how(repo, dvx, models):
    assert "of v1 (found: the nearest weights" in dvx("commit", models.code).stdout
    dvx("checkout", "v1", "-o", "work")
    out = dvx("commit", "work", "--as", "again").stdout
    assert "found: the directory was checked out from it" in out


def test_committing_the_same_again_changes_nothing(repo, dvx, models):
    before = dvx.json("log")["commits"]
    same = ("--base", "v1", "-m", "instruction tuning", "--task", "talk")
    assert "nothing to commit" in dvx("commit", models.chat, *same).stdout
    assert dvx.json("log")["commits"] == before


def test_a_run_grows_and_its_commits_have_names(repo, dvx, models, make):
    tensors, moved, write_model = make
    for step in range(3):
        write_model(repo / f"step{step}", moved(tensors(0), 0.01, 10 + step))
        dvx("commit", f"step{step}", "--base", "v1", "--as", "run", "-m", f"step {step}")
    log = dvx("log", "run").stdout.splitlines()
    assert [line.split()[0] for line in log] == ["run", "run~1", "run~2", "v1"]
    assert dvx.json("show", "run~2")["message"] == "step 0"


def test_transfer_reports(repo, dvx, models):
    dvx("commit", models.code, "--base", "v1")
    out = dvx("transfer", "--from", "v1", "--to", "v2", "--all", "--dry-run").stdout
    assert "4 tensors matched" in out
    assert "cos(Δ, m_t-m_s)" in out
    assert out.count("nothing was committed") == 2
    assert "v2+code" not in dvx("ls").stdout


def test_new_rows_alone_are_no_other_weights(repo, dvx, make):
    tensors, _, write_model = make
    values = tensors(0)
    values["model.embed_tokens.weight"] = np.vstack(
        [values["model.embed_tokens.weight"], np.ones((8, 8), "f4")]
    )
    write_model(repo / "grown", values)
    told = dvx("commit", "grown", "--base", "v1").stdout
    assert "the weights that the base has too are the same" in told
    assert "0% of the weights" not in told


def test_padded_vocabularies_are_named(repo, dvx, models, make):
    tensors, _, write_model = make
    wider = tensors(4)
    wider["model.embed_tokens.weight"] = np.zeros((40, 8), np.float32)
    write_model(repo / "v3", wider)
    dvx("import", "v3")
    out = dvx("transfer", "--from", "chat", "--to", "v3").stdout
    assert "1 padded" in out
    assert "model.embed_tokens.weight (40 / 32 / 32 → 40 rows)" in out
    assert dvx.error("transfer", "--from", "chat", "--to", "v3", "--vocab", "strict", code=1)["kind"] == (
        "incompatible"
    )


def test_status_sees_a_change(repo, dvx):
    dvx("checkout", "v1", "-o", "work")
    assert "unchanged" in dvx("status", "work").stdout
    (repo / "work/notes.txt").write_text("new")
    out = dvx("status", "work").stdout
    assert "A file notes.txt" in out
    assert "checked out from v1" in out


def test_branches_and_tags(repo, dvx):
    dvx("branch", "best", "chat")
    dvx("branch", "--rename", "best", "finest")
    dvx("tag", "v1.0", "finest")
    assert [r["name"] for r in dvx.json("ls")["names"]][-1] == "v1.0"
    out = dvx("branch", "--delete", "finest").stdout
    assert "brings it back" in out
    assert "finest" not in dvx("branch").stdout
    assert "delete branch" in dvx("reflog", "finest").stdout


def test_gc_removes_what_lost_its_name(repo, dvx, models):
    dvx("commit", models.code, "--base", "v1")
    assert dvx("gc").stdout == "nothing to remove\n"
    dvx("branch", "--delete", "code")
    assert "would remove 1 pack" in dvx("gc", "--dry-run", "--prune", "now").stdout
    assert "removed 1 pack" in dvx("gc", "--prune", "now").stdout
    assert dvx("fsck", "--full").stdout.endswith("no problems\n")


def test_the_repository_is_found_from_below_by_option_and_by_environment(
    repo, dvx, monkeypatch, tmp_path_factory
):
    (repo / "a/b").mkdir(parents=True)
    monkeypatch.chdir(repo / "a/b")
    assert len(dvx.json("log")["commits"]) == 4
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert len(dvx.json("log", "--repo", repo)["commits"]) == 4
    assert len(dvx.json("--repo", repo, "log")["commits"]) == 4
    monkeypatch.setenv("DVX_REPO", str(repo))
    assert len(dvx.json("log")["commits"]) == 4


def test_sql_reads_from_stdin_and_writes_csv(repo, dvx):
    query = "SELECT kind, count(*) AS n FROM commits GROUP BY kind ORDER BY kind"
    out = dvx("sql", "--csv", "-", input=query).stdout
    assert out == "kind,n\nbase,2\nfinetune,1\ntransfer,1\n"


def test_the_author_comes_from_git(repo, dvx, models, monkeypatch, tmp_path):
    monkeypatch.delenv("DVX_AUTHOR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(
        '[core]\n\tname = no\n[user]\n\tname = "Grace H" # me\n\temail = g@h\n'
    )
    dvx("commit", models.code, "--base", "v1")
    assert dvx.json("show", "code")["author"] == "Grace H <g@h>"


def test_a_folder_of_models_is_no_model(repo, models, dvx):
    shutil.copytree(models.v1, repo / "zoo/one")
    shutil.copytree(models.chat, repo / "zoo/two")
    out = dvx("import", "zoo").stdout
    assert "warning: no weights at the top of it" in out
    assert "dvx import DIR/MODEL --as NAME" in out
    assert "warning" not in dvx("import", "zoo/one", "--as", "one").stdout

"""`dvx checkout` over what is there, and what `dvx transfer` says of files and weights."""

import json
import shutil

import pytest


def test_an_update_says_what_it_did(repo, dvx):
    dvx("checkout", "v1", "-o", "out")
    shown = dvx("checkout", "chat", "--update", "out").stdout
    assert "1 changed, 1 kept as they were, 0 removed" in shown
    found = dvx.json("checkout", "chat", "--update", "out")
    assert (found["changed"], found["kept"]) == ([], ["config.json", "model.safetensors"])


def test_what_stays_and_what_goes_is_named(repo, dvx):
    (repo / "more").mkdir()
    dvx("checkout", "v1", "-o", "weights")
    shutil.copy("weights/model.safetensors", "more")
    (repo / "more" / "notes.txt").write_text("n")
    (repo / "more" / "README.md").write_text("n")
    dvx("import", "more")
    dvx("checkout", "more", "-o", "out")
    (repo / "out" / "notes.txt").write_text("mine now")
    shown = dvx("checkout", "v1", "--update", "out").stdout
    assert "removed: README.md" in shown
    assert "changed after the earlier checkout: notes.txt" in shown


@pytest.mark.parametrize(
    ("args", "code", "kind", "hint"),
    [
        (("checkout", "v1"), 2, "usage", None),
        (("checkout", "v1", "-o", "out", "--update", "out"), 2, "usage", None),
        (("checkout", "v1", "--update", "out", "--force"), 2, "usage", None),
        (("checkout", "v1", "--update", "empty"), 1, "bad-argument", "dvx checkout REV -o DIR"),
        (("checkout", "v1", "-o", "out", "--force"), 1, "output-not-empty", "Commit or move away"),
        (("checkout", "v1", "--update", "plain"), 1, "output-not-empty", "dvx checkout REV -o DIR --force"),
    ],
)
def test_refusals(repo, dvx, args, code, kind, hint):
    (repo / "empty").mkdir()
    for name in ("out", "plain"):
        dvx("checkout", "chat", "-o", name)
    (repo / "out" / "pytorch_model.bin").write_bytes(b"theirs")
    (repo / "plain" / "config.json").write_text("{}")
    found = dvx.error(*args, code=code)
    assert found["kind"] == kind
    assert hint is None or hint in found["hint"]


def test_a_transfer_lists_the_settings_that_differ(repo, dvx):
    for name, settings in (("b1", {"rope": 1}), ("b2", {"rope": 2}), ("t1", {"rope": 1, "eos_token_id": 7})):
        dvx("checkout", {"b1": "v1", "b2": "v2", "t1": "chat"}[name], "-o", name)
        (repo / name / ".dvx-checkout.json").unlink()
        (repo / name / "config.json").write_text(json.dumps({"model_type": "odd"} | settings))
    (repo / "t1" / "tokenizer.json").write_text("{}")
    (repo / "b2" / "model.onnx").write_text("x")
    for name in ("b1", "b2"):
        dvx("import", name)
    dvx("commit", "t1", "--base", "b1")
    shown = dvx("transfer", "--from", "t1", "--to", "b2").stdout
    for line in (
        "tokenizer: the fine-tune's",
        "config.json: the target's; 2 settings differ",
        "eos_token_id: not set in the target, 7 in the fine-tune (not set in its base); the fine-tune's is",
        "rope: 2 in the target, 1 in the fine-tune",
        "apart (weights that took no part): model.onnx (kept as it is: not safetensors)",
    ):
        assert line in shown
    (found,) = dvx.json("transfer", "--from", "t1", "--to", "b2", "--config", "finetune", "-n")["transfers"]
    assert found["config"] == "finetune"
    assert [(d["key"], d["written"]) for d in found["config_differences"]] == [
        ("eos_token_id", "finetune"), ("rope", "finetune"),
    ]  # fmt: skip
    assert found["side_files"]["tokenizer"] == {"": "finetune"}

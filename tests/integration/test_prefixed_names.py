"""Real fine-tunes whose names have prefixes that their base's have not: stored, compared, merged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import build_model

from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.diff import diff
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.show import show
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.invariants import check_repository

WRAPPERS = {"compiled": "_orig_mod.", "ddp": "module.", "fsdp": "_fsdp_wrapped_module."}


def draft(name):
    return Draft(name, signature=Signature("tester", 1_700_000_000_000_000))


def nudged(model, seed):
    """The model after a small update of every weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 1e-3 * torch.randn(p.shape, generator=generator)
    return model


def rename(folder: Path, prefix: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({prefix + k: v for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders: bases old and new, tuned and second from old; the others are tuned behind wrappers."""
    folder = tmp_path_factory.mktemp("models")
    build_model(0).save_pretrained(folder / "old")
    nudged(build_model(0), 5).save_pretrained(folder / "new")
    nudged(build_model(0), 8).save_pretrained(folder / "second")
    for name in ("tuned", *WRAPPERS):
        nudged(build_model(0), 7).save_pretrained(folder / name)
        if name in WRAPPERS:
            rename(folder / name, WRAPPERS[name])
    nudged(build_model(0), 8).save_pretrained(folder / "second-compiled")
    rename(folder / "second-compiled", WRAPPERS["compiled"])
    return folder


@pytest.fixture(scope="module")
def history(models):
    repo = init_repository(models / "repo", sync=False)
    for name in ("old", "new"):
        import_base(repo, str(models / name), draft=draft(name))
    for name in ("tuned", "second", *WRAPPERS, "second-compiled"):
        commit(repo, str(models / name), base="old", draft=draft(name))
    return repo


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_fine_tune_is_a_delta_and_comes_back(models, tmp_path, name):
    repo = init_repository(tmp_path / "repo", sync=False)
    import_base(repo, str(models / "old"), draft=draft("old"))
    made = commit(repo, str(models / name), draft=draft("run"))
    assert (made.base.name, made.base.how) == ("old", "inferred")
    assert made.names_differ == f"all names have {WRAPPERS[name]} before them"
    assert (made.new_tensors, made.missing_tensors) == ((), ())
    shown = show(repo, "run")
    assert {t.codec for t in shown.tensors if t.raw_bytes > 256} <= {"delta", "xor"}
    assert all(t.name.startswith(WRAPPERS[name]) and t.l2 > 0 for t in shown.tensors)
    checkout_files(repo, "run", tmp_path / "out")
    for file in (models / name).iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    check_repository(tmp_path / "repo")


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_diff_behind_a_prefix_is_that_without_one(history, name):
    plain, wrapped = diff(history, "old", "tuned"), diff(history, "old", name)
    assert wrapped.names_differ == f"all names have {WRAPPERS[name]} before them"
    assert (wrapped.only_in_a, wrapped.only_in_b) == ((), ())
    assert wrapped.tensors == plain.tensors
    assert (wrapped.l2, wrapped.cosine, wrapped.changed) == (plain.l2, plain.cosine, plain.changed)
    same = diff(history, "tuned", name)
    assert same.n_identical == same.n_common == len(plain.tensors)


@pytest.mark.parametrize("name", WRAPPERS)
def test_transfer_merge_and_expressions_are_those_without_the_prefix(history, name):
    done = transfer(history, name, "new", draft=draft(f"new+{name}"))[0]
    plain = transfer(history, "tuned", "new", draft=draft(f"new+tuned-{name}"))[0]
    assert done.geometry == plain.geometry
    assert not done.compatibility.missing
    assert history.manifest(done.recorded.commit).tensors == history.manifest(plain.recorded.commit).tensors
    both = merge(history, ["new", name], draft=draft(f"both-{name}"))
    assert set(both.adjusted.renamed) == {
        f"{k} ← {WRAPPERS[name]}{k}" for k in history.manifest(history.resolve("new")).tensors
    }
    wanted = checkout(history, "0.5 * (new + tuned)")
    for found in (checkout(history, f"both-{name}"), checkout(history, f"0.5 * (new + {name})")):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_a_merge_that_would_have_the_names_of_a_wrapped_model_is_refused(history):
    """Nothing could load it, and one of those that are merged has the names that can be loaded."""
    with pytest.raises(InvalidInputError, match="compiled spells its tensors as no model can load them"):
        merge(history, ["compiled", "new"], draft=draft("led"))


def test_a_merge_of_wrapped_models_has_their_names_and_is_measured(history):
    both = merge(history, ["compiled", "second-compiled"], draft=draft("led-by-wrapped"))
    plain = merge(history, ["tuned", "second"], draft=draft("led-by-plain"))
    wanted, found = checkout(history, "led-by-plain"), checkout(history, "led-by-wrapped")
    assert {k.removeprefix("_orig_mod.") for k in found} == set(wanted)
    assert all(torch.equal(found[f"_orig_mod.{k}"], wanted[k]) for k in wanted)
    assert both.recorded.base == plain.recorded.base == history.resolve("old")
    moved = {t.name: t.l2 for t in show(history, "led-by-plain").tensors}
    assert {t.name.removeprefix("_orig_mod."): t.l2 for t in show(history, "led-by-wrapped").tensors} == moved
    assert all(norm > 0 for norm in moved.values())


def test_a_peft_model_that_was_saved_whole_is_a_delta_and_no_diff_vector(models, tmp_path):
    peft = pytest.importorskip("peft")
    repo = init_repository(tmp_path / "repo", sync=False)
    import_base(repo, str(models / "old"), draft=draft("old"))
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(build_model(0), config)
    (tmp_path / "whole").mkdir()
    save_file(model.state_dict(), tmp_path / "whole/model.safetensors", {"format": "pt"})
    made = commit(repo, str(tmp_path / "whole"), draft=draft("whole"))
    assert made.base.name == "old"
    assert made.missing_tensors == ()
    assert made.changed_share == 0
    assert made.new_tensors
    assert all(".lora_" in name for name in made.new_tensors)
    with pytest.raises(InvalidInputError, match=r"whole is a checkpoint with an unmerged LoRA in it"):
        transfer(repo, "whole", "old", draft=draft("carried"))


@pytest.mark.parametrize("bare_first", [True, False])
def test_a_bare_model_and_one_with_a_head(tmp_path, bare_first):
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=48, initializer_range=0.1)
    bare = transformers.BertModel(config)
    bare.save_pretrained(tmp_path / "bare")
    whole = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "bare", num_labels=3)
    nudged(whole, 3).save_pretrained(tmp_path / "whole")
    first, second = ("bare", "whole") if bare_first else ("whole", "bare")
    repo = init_repository(tmp_path / "repo", sync=False)
    import_base(repo, str(tmp_path / first), draft=draft("base"))
    made = commit(repo, str(tmp_path / second), draft=draft("tuned"))
    assert made.base.name == "base"
    head = {"classifier.weight", "classifier.bias"}
    assert (set(made.new_tensors), set(made.missing_tensors)) == (
        (head, set()) if bare_first else (set(), head)
    )
    measured = {t.name for t in show(repo, "tuned").tensors if t.l2 is not None}
    assert len(measured) == len(bare.state_dict()) - sum("position_ids" in k for k in bare.state_dict())
    checkout_files(repo, "tuned", tmp_path / "out")
    written = (tmp_path / "out/model.safetensors").read_bytes()
    assert written == (tmp_path / second / "model.safetensors").read_bytes()


def test_what_the_command_line_says(models, tmp_path):
    def dvx(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "dvx", *arguments],
            cwd=tmp_path, env={**os.environ, "DVX_AUTHOR": "tester"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    dvx("init")
    dvx("import", str(models / "old"))
    said = dvx("commit", str(models / "compiled"), "--as", "run")
    assert said.returncode == 0, said.stderr
    assert "all names have _orig_mod. before them, unlike those of the base" in said.stdout
    assert "in B all names have _orig_mod. before them" in dvx("diff", "old", "run", "--stat").stdout
    build_model(9).save_pretrained(tmp_path / "other")
    refused = dvx("commit", str(tmp_path / "other"), "--as", "run", "--base", "old")
    assert refused.returncode == 1
    assert "the branch run holds a fine-tune of another model: the weights are unrelated" in refused.stderr
    assert "put it on top of that one with --force" in refused.stderr
    forced = dvx("commit", str(tmp_path / "other"), "--as", "run", "--base", "old", "--force", "--json")
    told = json.loads(forced.stdout)
    assert told["base_is_unrelated"]
    assert told["base"]["distance"] > 1
    again = dvx("commit", str(models / "ddp"), "--as", "copy")
    assert "committed as a copy of run~1, which has these weights already: a fine-tune of old" in again.stdout

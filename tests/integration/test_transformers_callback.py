"""`DvxCallback` in real `Trainer` runs, and a PEFT adapter there and back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from toys import build_model, build_tokenizer, save

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.identity import Identity
from deltavcs.integrations.transformers import DvxCallback, _branch_name
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model
from deltavcs.refs import check_name
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.invariants import check_repository

SIGN = Signature("tester", 1_700_000_000_000_000)


class Rows(torch.utils.data.Dataset):
    """Random token rows."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(4, 60, (12,), generator=torch.Generator().manual_seed(i))
        return {"input_ids": ids, "labels": ids}


def run(model, out: Path, callback: DvxCallback, **more):
    from transformers import Trainer, TrainingArguments

    settings = {
        "max_steps": 6, "save_steps": 2, "logging_steps": 1, "save_total_limit": 1, "learning_rate": 1e-3,
        "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(out), **{**settings, **more})
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[callback])
    trainer.train()
    return trainer


@pytest.fixture
def base(repo, tmp_path):
    import_base(repo, save(build_model(0), tmp_path / "base"), draft=Draft("base", signature=SIGN))
    return repo


def test_every_save_is_a_commit(base, tmp_path) -> None:
    checkout_files(base, "base", tmp_path / "init")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "init")
    callback = DvxCallback(base, name="run", task="noise", author="me", metadata={"note": "x"})
    trainer = run(model, tmp_path / "out", callback)
    assert callback.errors == []
    assert len(callback.commits) == 3
    tip = base.commit(base.resolve("run"))
    assert base.resolve("run~2") == callback.commits[0]
    assert tip.kind is Kind.FINETUNE
    assert tip.parent_as(Role.BASE) == base.resolve("base")
    assert tip.task == "noise"
    facts = dict(tip.metadata)
    assert facts["step"] == "6"
    assert facts["note"] == "x"
    assert facts["hyper.learning-rate"] == "0.001"
    assert float(facts["loss"]) == trainer.state.log_history[-2]["loss"]
    assert Path(tip.source["path"]) == tmp_path / "out" / "checkpoint-6"
    # The Trainer kept one save; the repository has all three, and none of the optimizer's state.
    assert [p.name for p in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-6"]
    paths = {f.path for f in base.manifest(base.resolve("run~2")).files}
    assert "model.safetensors" in paths
    assert not any(p.startswith(("optimizer", "rng_state", "training_args")) for p in paths)
    loaded = load_model(base, "run").state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in trainer.model.state_dict().items())
    assert not list((base.path / "tmp").glob("writer-*"))
    check_repository(base.path.parent)


def test_training_does_not_fail_with_a_commit(base, tmp_path, caplog) -> None:
    callback = DvxCallback(base, name="run", base="nonsense")
    with caplog.at_level(logging.WARNING):
        run(build_model(1), tmp_path / "out", callback, max_steps=2)
    assert len(callback.errors) == 1
    assert "a save was not committed" in caplog.text
    assert callback.commits == []


@pytest.mark.parametrize(
    ("folder", "branch"), [("my run", "my-run"), ("exp~1", "exp-1"), (".hidden..lock", "hidden-lock")]
)
def test_an_output_folder_whose_name_no_branch_may_have(base, tmp_path, caplog, folder, branch) -> None:
    callback = DvxCallback(base, base="base")
    with caplog.at_level(logging.WARNING):
        trainer = run(build_model(1), tmp_path / "runs" / folder, callback, max_steps=2)
    assert trainer.state.global_step == 2
    assert callback.errors == []
    assert callback.commits == [base.resolve(branch)]
    assert f"saves go to the branch {branch}" in caplog.text


def test_the_name_of_the_output_folder_is_the_branch(base, tmp_path, caplog) -> None:
    callback = DvxCallback(base, base="base")
    with caplog.at_level(logging.WARNING):
        run(build_model(1), tmp_path / "größe.v2", callback, max_steps=2)
    assert callback.commits == [base.resolve("größe.v2")]
    assert "saves go" not in caplog.text


@given(st.text(st.characters(exclude_characters="/\0"), max_size=255))
@example("@")
@example("@{")
@example("a" * 64)
@example("ä" * 255)
@example("a\udc80")
@example("..")
@example(".lock")
@example("-.x.lock.lock.")
def test_any_folder_gives_a_branch(folder: str) -> None:
    name = _branch_name(folder)
    assert check_name(name) == name


def test_a_bad_name_is_refused_before_training(base) -> None:
    with pytest.raises(InvalidInputError) as caught:
        DvxCallback(base, name="my run")
    assert caught.value.kind is ErrorKind.BAD_REF_NAME


class Panic(BaseException):
    """What native code raises when it panics; no Exception."""


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyboardInterrupt(), SystemExit(1), Panic("oh"), MemoryError()]
)
def test_no_exception_of_a_commit_ends_a_training(base, tmp_path, caplog, monkeypatch, error) -> None:
    calls = []

    def fails_once(*args, **more):
        calls.append(args)
        if len(calls) == 1:
            raise error
        return commit(*args, **more)

    monkeypatch.setattr("deltavcs.integrations.transformers.commit", fails_once)
    callback = DvxCallback(base, name="run", base="base")
    with caplog.at_level(logging.WARNING):
        trainer = run(build_model(0), tmp_path / "out", callback, max_steps=4)
    assert trainer.state.global_step == 4
    assert callback.errors == [error]
    assert callback.commits == [base.resolve("run")]
    told = [r.getMessage() for r in caplog.records if r.name == "deltavcs.integrations.transformers"]
    assert told[0].startswith(f"dvx: a save was not committed: checkpoint-2: {type(error).__name__}")
    assert told[1].startswith("dvx: not committed: checkpoint-2.")
    assert len(told) == 2
    assert not list((base.path / "tmp").glob("writer-*"))


def test_no_exception_of_putting_files_aside_ends_a_training(base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("deltavcs.integrations.transformers._set_aside", lambda *a: 1 / 0)
    callback = DvxCallback(base, name="run", base="base")
    trainer = run(build_model(1), tmp_path / "out", callback, max_steps=2)
    assert trainer.state.global_step == 2
    assert [type(e) for e in callback.errors] == [ZeroDivisionError]
    assert not list((base.path / "tmp").glob("writer-*"))


def test_peft_there_and_back(base, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_model(base, "base"), config)
    callback = DvxCallback(base, name="lora", base="base")
    trainer = run(model, tmp_path / "out", callback, max_steps=4, learning_rate=1e-2)
    assert callback.errors == []
    assert base.commit(base.resolve("lora")).kind is Kind.ADAPTER
    checkout_files(base, "lora", tmp_path / "adapter")
    saved = tmp_path / "out" / "checkpoint-4"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "adapter" / name).read_bytes() == (saved / name).read_bytes()
    loaded = peft.PeftModel.from_pretrained(load_model(base, "base"), str(tmp_path / "adapter")).eval()
    ids = build_tokenizer()("say cat", return_tensors="pt").input_ids
    trainer.model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, trainer.model(ids).logits)
        checkout_files(base, "lora", tmp_path / "merged", merge_adapter=True)
        from transformers import AutoModelForCausalLM

        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        assert torch.allclose(merged(ids).logits, trainer.model(ids).logits, atol=1e-5)
    again = commit(base, str(tmp_path / "adapter"), draft=Draft("lora2", signature=SIGN))
    value = base.commit(again.recorded.commit)
    assert value.manifest == base.commit(base.resolve("lora")).manifest
    assert value.parent_as(Role.BASE) == base.resolve("base")
    assert value.parent_as("init") == base.resolve("lora")


def log_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "deltavcs.integrations.transformers"]


@pytest.mark.parametrize("place", ["import", "checkout"])
def test_the_base_is_where_the_model_was_loaded_from(base, tmp_path, caplog, place) -> None:
    """Also where another base is about as near."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        model = build_model(0)
        for p in model.parameters():
            p += 1e-3
    import_base(base, save(model, tmp_path / "near"), draft=Draft("near", signature=SIGN))
    if place == "checkout":
        checkout_files(base, "near", tmp_path / "checkout")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / ("checkout" if place == "checkout" else "near"))
    callback = DvxCallback(base.using(identity=Identity("Ada <ada@example.org>")), name="run")
    with caplog.at_level(logging.WARNING):
        run(model, tmp_path / "out", callback, max_steps=4)
    assert callback.errors == []
    assert len(callback.commits) == 2
    for commit_id in callback.commits:
        value = base.commit(commit_id)
        assert value.parent_as(Role.BASE) == base.resolve("near")
        assert value.author == "Ada <ada@example.org>"
    said = "dvx: the saves are committed to run as made from near (where the model was loaded from)"
    assert log_of(caplog) == [said]


def test_a_place_that_the_weights_deny_is_passed_over(base, tmp_path, caplog) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    import_base(base, save(build_model(1), tmp_path / "second"), draft=Draft("second", signature=SIGN))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "base"))
    model.load_state_dict(build_model(1).state_dict())
    assert model.name_or_path == str(tmp_path / "base")
    callback = DvxCallback(base, name="run")
    with caplog.at_level(logging.WARNING):
        run(model, tmp_path / "out", callback, max_steps=2)
    assert base.commit(base.resolve("run")).parent_as(Role.BASE) == base.resolve("second")
    assert log_of(caplog) == ["dvx: the saves are committed to run as made from second (the nearest weights)"]


def test_a_save_without_a_base_is_called_as_the_trainer_calls_it(base, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        run(build_model(5), tmp_path / "out", DvxCallback(base), max_steps=2)
    said = log_of(caplog)[0]
    assert said.startswith("dvx: a save was not committed: checkpoint-2: cannot tell the base of ")
    assert str(tmp_path / "out" / "checkpoint-2") in said
    assert ".dvx" not in said
    assert said.endswith("(name it as `base` of the callback)")


def test_an_adapter_finds_the_base_of_the_model_below(base, tmp_path, caplog) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    import_base(base, save(build_model(1), tmp_path / "second"), draft=Draft("second", signature=SIGN))
    checkout_files(base, "second", tmp_path / "checkout")
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "checkout"), config)
    callback = DvxCallback(base, name="lora")
    with caplog.at_level(logging.WARNING):
        run(model, tmp_path / "out", callback, max_steps=4)
    assert callback.errors == []
    assert len(callback.commits) == 2
    tip = base.commit(base.resolve("lora"))
    assert (tip.kind, tip.parent_as(Role.BASE)) == (Kind.ADAPTER, base.resolve("second"))
    again = commit(base, str(tmp_path / "out/checkpoint-4"), draft=Draft("by-hand", signature=SIGN))
    assert (again.base.name, again.base.how) == ("second", "config")


def test_no_save_is_lost_to_a_branch_that_holds_another_model(base, tmp_path, caplog) -> None:
    import_base(base, save(build_model(1), tmp_path / "second"), draft=Draft("second", signature=SIGN))
    run(build_model(0), tmp_path / "a" / "out", DvxCallback(base), max_steps=2)
    caplog.clear()
    callback = DvxCallback(base)
    with caplog.at_level(logging.WARNING):
        run(build_model(1), tmp_path / "b" / "out", callback, max_steps=4)
    assert callback.errors == []
    assert base.resolve("out-2") == callback.commits[-1]
    assert base.resolve("out-2~1") == callback.commits[0]
    assert base.commit(base.resolve("out-2~1")).parent_as(Role.BASE) == base.resolve("second")
    assert "the branch out holds a fine-tune of another model" in log_of(caplog)[0]
    assert log_of(caplog)[0].endswith("so the saves go to the branch out-2")


def test_a_run_that_goes_on_keeps_its_base(base, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    run(build_model(0), tmp_path / "out", DvxCallback(base), max_steps=2)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/checkpoint-2")
    run(model, tmp_path / "again" / "out", DvxCallback(base), max_steps=2)
    assert base.commit(base.resolve("out")).parent_as(Role.BASE) == base.resolve("base")
    assert base.resolve("out~1")
    elsewhere = DvxCallback(base, name="elsewhere")
    run(model, tmp_path / "elsewhere", elsewhere, max_steps=2)
    assert base.commit(base.resolve("elsewhere")).parent_as(Role.BASE) == base.resolve("out~1")

"""Folders that training libraries write: the model is committed, the state of the training is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llama import build_model

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Cause, Intake, Rules
from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import Committed, commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft

pytest.importorskip("accelerate")
Sign = Callable[..., Any]
MODEL = {"config.json", "generation_config.json", "model.safetensors"}


@pytest.fixture
def base(repo: Repository, tmp_path: Path, sign: Sign) -> Any:
    model = build_model(seed=1)
    model.save_pretrained(tmp_path / "base")
    import_base(repo, str(tmp_path / "base"), draft=Draft("base", signature=sign()))
    return model


def files(repo: Repository, done: Committed) -> set[str]:
    return {f.path for f in repo.manifest(done.recorded.commit).files}


def left_out(done: Committed) -> set[str]:
    assert all(x.size > 0 and x.cause is Cause.DEFAULT for x in done.findings.left_out)
    return {x.path for x in done.findings.left_out}


def test_the_folder_of_a_trainer(repo: Repository, base: Any, tmp_path: Path, sign: Sign) -> None:
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(4)]
    out = tmp_path / "run"
    told = TrainingArguments(
        str(out), max_steps=2, save_steps=1, use_cpu=True, report_to=[], disable_tqdm=True
    )
    trainer = Trainer(model=base, args=told, train_dataset=rows)
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    done = commit(repo, str(out), base="base", draft=Draft("run", signature=sign()))
    assert files(repo, done) == MODEL | {"trainer_state.json"}
    assert left_out(done) == {"checkpoint-1/", "checkpoint-2/", "training_args.bin"}
    assert all(x.holds_weights for x in done.findings.left_out if x.path.endswith("/"))
    save = commit(repo, str(out / "checkpoint-1"), base="base", draft=Draft("save", signature=sign()))
    assert files(repo, save) == MODEL | {"trainer_state.json"}
    assert left_out(save) == {"optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"}


@pytest.mark.parametrize("safe", [True, False])
def test_the_state_that_accelerate_saves(
    repo: Repository, base: Any, tmp_path: Path, sign: Sign, safe: bool
) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    optimizers = [torch.optim.AdamW(base.parameters()) for _ in range(2)]
    schedulers = [torch.optim.lr_scheduler.ConstantLR(o) for o in optimizers]
    accelerator.prepare(base, *optimizers, *schedulers)
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    base.config.save_pretrained(tmp_path / "state")
    done = commit(
        repo, str(tmp_path / "state"), base="base", allow_pickle=not safe, draft=Draft("s", signature=sign())
    )
    assert files(repo, done) == {"config.json", "model.safetensors"}
    assert done.converted == (() if safe else ("pytorch_model.bin",))
    state = ["optimizer", "optimizer_1", "scheduler", "scheduler_1"]
    assert left_out(done) == {*(f"{name}.bin" for name in state), "random_states_0.pkl"}


def test_what_the_libraries_call_their_state_is_left_out() -> None:
    from accelerate.utils import constants
    from transformers import trainer

    names = [
        trainer.TRAINING_ARGS_NAME, trainer.OPTIMIZER_NAME, trainer.OPTIMIZER_NAME_BIN,
        trainer.SCHEDULER_NAME, trainer.SCALER_NAME, constants.SCALER_NAME, f"{constants.OPTIMIZER_NAME}.bin",
        f"{constants.SCHEDULER_NAME}.bin", f"{constants.SAMPLER_NAME}.bin", f"{constants.SAMPLER_NAME}_1.bin",
        f"{constants.RNG_STATE_NAME}_3.pkl", f"{constants.OPTIMIZER_NAME}_0/",
        f"{constants.FSDP_MODEL_NAME}_0/",
    ]  # fmt: skip
    rules = Rules(Intake())
    assert {name: rules.judge(name) for name in names} == dict.fromkeys(names, Cause.DEFAULT)
    assert rules.judge(trainer.TRAINER_STATE_NAME) is None


def test_what_was_included_once_comes_along_from_a_checkout(
    repo: Repository, base: Any, tmp_path: Path, sign: Sign
) -> None:
    """An unchanged checkout is the same content, whatever the defaults leave out; `exclude` still does."""
    source = tmp_path / "run"
    base.save_pretrained(source)
    (source / "optimizer.pt").write_bytes(b"state")
    (source / "runs").mkdir()
    (source / "runs" / "events").write_bytes(b"log")
    intake = Intake(include=("optimizer.pt", "runs/"))
    first = commit(repo, str(source), base="base", intake=intake, draft=Draft("run", signature=sign()))
    checkout_files(repo, "run", tmp_path / "out")
    (tmp_path / "out" / "optimizer_1.bin").write_bytes(b"new")
    again = commit(repo, str(tmp_path / "out"), draft=Draft("again", signature=sign()))
    assert files(repo, again) == files(repo, first) >= {"optimizer.pt", "runs/events"}
    assert left_out(again) == {"optimizer_1.bin"}
    less = Intake(exclude=("runs/",))
    last = commit(repo, str(tmp_path / "out"), intake=less, draft=Draft("last", signature=sign()))
    assert files(repo, last) == files(repo, first) - {"runs/events"}


@pytest.mark.parametrize(
    "part",
    [
        "pytorch_model_fsdp_0/__0_0.distcp",
        "__0_0.distcp",
        "zero_pp_rank_0_mp_rank_00_model_states.pt",
        "global_step5/mp_rank_00_model_states.pt",
    ],
)
def test_parts_of_a_distributed_run_are_called_that(
    repo: Repository, tmp_path: Path, sign: Sign, part: str
) -> None:
    (tmp_path / "run" / part).parent.mkdir(parents=True)
    (tmp_path / "run" / part).write_bytes(b"part")
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="parts of some") as caught:
        import_base(repo, str(tmp_path / "run"), draft=Draft(signature=sign()))
    assert caught.value.advice is Advice.GATHER_PARTS


@pytest.mark.parametrize(
    "names",
    [
        ("openvino_model.bin", "openvino_model.xml", "config.json"),
        ("ggml-model-q4_0.bin",),
        ("m.mlpackage/Data/weights/weight.bin",),
    ],
)
def test_models_of_other_libraries_are_no_pickles(
    repo: Repository, tmp_path: Path, sign: Sign, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"{}")
    done = import_base(repo, str(tmp_path / "m"), draft=Draft("m", signature=sign()))
    assert {f.path for f in repo.manifest(done.recorded.commit).files} == set(names)

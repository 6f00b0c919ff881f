"""Pickled weights: refused, or converted through `torch.load(weights_only=True)`; never executed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_llama import build_model

from deltavcs.advice import Advice
from deltavcs.checkpoint.intake import Intake
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.show import show
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft

Sign = Callable[..., Any]


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embed = torch.randn(32, 8, generator=generator).to(torch.bfloat16)
    return {
        "model.embed_tokens.weight": embed,
        "lm_head.weight": embed,  # tied: the same memory under two names
        "model.norm.weight": torch.randn(8, generator=generator),
        "model.layers.0.up_proj.weight": torch.randn(16, 8, generator=generator).T,  # not contiguous
    }


def folder(path: Path, **files: Any) -> Path:
    path.mkdir()
    for name, value in files.items():
        torch.save(value, path / name.replace("_DOT_", "."))
    (path / "config.json").write_text("{}")
    return path


class Exploit:
    """A pickle that would run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def test_refused_without_the_flag(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    source = folder(tmp_path / "old", pytorch_model_DOT_bin=state(1))
    with pytest.raises(InvalidInputError) as caught:
        import_base(repo, str(source), draft=Draft(signature=sign()))
    assert caught.value.kind is ErrorKind.PICKLE_REFUSED
    assert caught.value.advice is Advice.ALLOW_PICKLES
    assert not repo.refs.all()


def test_converted_with_the_flag(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    source = folder(tmp_path / "old", pytorch_model_DOT_bin=state(1))
    done = import_base(repo, str(source), allow_pickle=True, draft=Draft("old", signature=sign()))
    assert done.converted == ("pytorch_model.bin",)
    assert show(repo, "old").source["converted"] == ["pytorch_model.bin"]
    checkout_files(repo, "old", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name[0] != ".") == [
        "config.json",
        "model.safetensors",
    ]
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == state(1).keys()
    for name, want in state(1).items():
        assert torch.equal(found[name], want)
    assert (source / "pytorch_model.bin").exists()
    assert not list((repo.path / "tmp").iterdir())


def test_sharded(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    parts = state(1)
    names = sorted(parts)
    source = folder(tmp_path / "old")
    for i, chosen in enumerate((names[:2], names[2:]), 1):
        torch.save({n: parts[n] for n in chosen}, source / f"pytorch_model-0000{i}-of-00002.bin")
    shards = {n: f"pytorch_model-0000{1 if n in names[:2] else 2}-of-00002.bin" for n in names}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    import_base(repo, str(source), allow_pickle=True, draft=Draft("old", signature=sign()))
    checkout_files(repo, "old", tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == parts.keys()
    for name, shard in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / "out" / shard)[name], parts[name])
    assert not list((tmp_path / "out").glob("*.bin*"))


@pytest.mark.parametrize("name", ["model.pt", "weights.bin"])
def test_one_file(repo: Repository, tmp_path: Path, sign: Sign, name: str) -> None:
    torch.save({"state_dict": state(2)}, tmp_path / name)
    import_base(repo, str(tmp_path / name), allow_pickle=True, draft=Draft("one", signature=sign()))
    assert show(repo, "one").n_tensors == 4


def test_a_fine_tune_of_a_converted_base(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    first, second = state(1), {k: v + 0.001 for k, v in state(1).items()}
    import_base(
        repo,
        str(folder(tmp_path / "a", pytorch_model_DOT_bin=first)),
        allow_pickle=True,
        draft=Draft(signature=sign()),
    )
    source = folder(tmp_path / "b", pytorch_model_DOT_bin=second)
    done = commit(repo, str(source), allow_pickle=True, draft=Draft(signature=sign()))
    assert done.base.name == "a"
    assert done.base.how == "inferred"


def test_code_is_never_run(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    proof = tmp_path / "proof"
    source = folder(tmp_path / "evil", pytorch_model_DOT_bin={"w": Exploit(proof)})
    for allow in (False, True):
        with pytest.raises(InvalidInputError) as caught:
            import_base(repo, str(source), allow_pickle=allow, draft=Draft(signature=sign()))
        assert caught.value.kind is ErrorKind.PICKLE_REFUSED
    assert not proof.exists()
    assert not repo.refs.all()


@pytest.mark.parametrize("value", [{"step": 3}, [1, 2], {"w": {"deep": torch.zeros(1)}}, {}])
def test_anything_but_tensors(repo: Repository, tmp_path: Path, sign: Sign, value: Any) -> None:
    source = folder(tmp_path / "odd", pytorch_model_DOT_bin=value)
    with pytest.raises(InvalidInputError) as caught:
        import_base(repo, str(source), allow_pickle=True, draft=Draft(signature=sign()))
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT


def test_shards_of_pickles_that_are_not_all_there(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    parts = state(1)
    source = folder(tmp_path / "old", **{"pytorch_model-00001-of-00002_DOT_bin": parts})

    def refused(words: str) -> None:
        with pytest.raises(InvalidInputError, match=words) as caught:
            import_base(repo, str(source), allow_pickle=True, draft=Draft(signature=sign()))
        assert caught.value.kind is ErrorKind.BAD_CHECKPOINT and caught.value.advice is Advice.FINISH_DOWNLOAD

    refused(r"pytorch_model-00002-of-00002\.bin is missing")
    shard = "pytorch_model-00001-of-00002.bin"
    index = source / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*parts, "gone"], shard)}))
    refused("gone, which none of its files holds")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(parts, shard) | {"x": "other.bin"}}))
    refused(r"other\.bin, which is not there")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(parts, shard)}))
    assert import_base(repo, str(source), allow_pickle=True, draft=Draft("old", signature=sign()))


def test_a_pickle_that_is_left_out_is_not_converted(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    source = folder(tmp_path / "run", pytorch_model_DOT_bin=state(1), other_DOT_bin={"step": 3})
    intake = Intake(exclude=("other.bin",))
    done = import_base(
        repo, str(source), allow_pickle=True, intake=intake, draft=Draft("run", signature=sign())
    )
    assert done.converted == ("pytorch_model.bin",)
    assert [x.path for x in done.findings.left_out] == ["other.bin"]
    assert not done.findings.links


def test_training_state_beside_safetensors_is_left_out(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    from safetensors.torch import save_file

    source = folder(tmp_path / "run", optimizer_DOT_pt={"lr": 1.0}, training_args_DOT_bin={"a": 1})
    save_file({"w": torch.zeros(4)}, source / "model.safetensors")
    done = import_base(repo, str(source), draft=Draft("run", signature=sign()))
    assert [x.path for x in done.findings.left_out] == ["optimizer.pt", "training_args.bin"]
    both = Intake(include=("optimizer.pt", "training_args.bin"))
    import_base(repo, str(source), intake=both, draft=Draft("all", signature=sign()))
    checkout_files(repo, "all", tmp_path / "out")
    for name in ("optimizer.pt", "training_args.bin"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


def test_training_state_beside_pickled_weights_is_not_converted(
    repo: Repository, tmp_path: Path, sign: Sign
) -> None:
    others = {"optimizer_DOT_bin": {"state": {}}, "sampler_DOT_bin": {"epoch": 1}, "notes_DOT_pt": {"a": 1}}
    source = folder(tmp_path / "acc", pytorch_model_DOT_bin=state(1), **others)
    done = import_base(repo, str(source), allow_pickle=True, draft=Draft("acc", signature=sign()))
    assert done.converted == ("pytorch_model.bin",)
    assert show(repo, "acc").n_tensors == len(state(1))


def test_what_a_training_loop_wrapped_is_opened_and_said(
    repo: Repository, tmp_path: Path, sign: Sign
) -> None:
    source = folder(tmp_path / "tut", checkpoint_DOT_pt={"epoch": 3, "model_state_dict": state(1)})
    done = import_base(repo, str(source), allow_pickle=True, draft=Draft("tut", signature=sign()))
    assert done.converted == ("checkpoint.pt (model_state_dict)",)
    checkout_files(repo, "tut", tmp_path / "out")
    assert load_file(tmp_path / "out/model.safetensors").keys() == state(1).keys()


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_stored_as_transformers_stores_them(
    repo: Repository, tmp_path: Path, sign: Sign, tied: bool
) -> None:
    model = build_model(tied=tied)
    if not tied:  # the memory is shared, but the model would not tie it
        model.lm_head.weight = model.model.embed_tokens.weight
    model.config.save_pretrained(tmp_path / "old")
    torch.save(model.state_dict(), tmp_path / "old/pytorch_model.bin")
    import_base(repo, str(tmp_path / "old"), allow_pickle=True, draft=Draft("old", signature=sign()))
    checkout_files(repo, "old", tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    if tied:
        model.save_pretrained(tmp_path / "new")
        assert found.keys() == load_file(tmp_path / "new/model.safetensors").keys()
    else:
        assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


def test_an_adapter_beside_a_whole_model(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    factors = {"base_model.model.q.lora_A.weight": torch.ones(1, 2)}
    source = folder(tmp_path / "both", pytorch_model_DOT_bin=state(1), adapter_model_DOT_bin=factors)
    import_base(repo, str(source), allow_pickle=True, draft=Draft("both", signature=sign()))
    checkout_files(repo, "both", tmp_path / "out")
    assert load_file(tmp_path / "out/model.safetensors").keys() == state(1).keys()
    assert load_file(tmp_path / "out/adapter_model.safetensors").keys() == factors.keys()
    assert not list((tmp_path / "out").glob("*.index.json"))


def test_one_file_counts_without_the_shards_beside_it(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    """As transformers reads it: shards and their index may be left from an earlier save."""
    source = folder(tmp_path / "x", pytorch_model_DOT_bin=state(1), model_DOT_bin=state(2))
    torch.save({"old.weight": torch.ones(2)}, source / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"old.weight": "pytorch_model-00001-of-00001.bin"}}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    done = import_base(repo, str(source), allow_pickle=True, draft=Draft("x", signature=sign()))
    assert done.converted == ("pytorch_model.bin",)
    found = checkout(repo, "x")
    assert found.keys() == state(1).keys()
    assert torch.equal(torch.as_tensor(found["model.norm.weight"]), state(1)["model.norm.weight"])


def test_weights_in_two_files_are_said_with_what_helps(repo: Repository, tmp_path: Path, sign: Sign) -> None:
    source = folder(tmp_path / "x", epoch1_DOT_pt=state(1), epoch2_DOT_pt=state(2))
    with pytest.raises(InvalidInputError) as caught:
        import_base(repo, str(source), allow_pickle=True, draft=Draft(signature=sign()))
    assert (caught.value.advice, caught.value.facts) == (Advice.ONE_PICKLE, {"path": "epoch2.pt"})

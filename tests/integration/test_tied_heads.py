"""A head that one model ties to its embedding and another trained: no transfer, merge or sum loses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, nudged
from click.testing import CliRunner
from saved_models import loaded, save_model, untied

import deltavcs as dv
from deltavcs.repo import init_repository
from dvx.app import cli

_TIED = {**ARCHITECTURES, **OTHER_ARCHITECTURES}
_FAMILIES = ["llama-tied", "gemma3", "bart", "bert-mlm", "t5"]


def _record(folder: Path, name: str) -> dv.Repository:
    """Bases old, new (tied) and new-own (untied); fine-tunes chat (tied) and chat-own (untied) of old."""
    make = _TIED[name]
    models = {
        "old": make(), "new": nudged(make(), seed=5), "new-own": untied(make(), seed=6),
        "chat": nudged(make(), seed=2), "chat-own": untied(make()),
    }  # fmt: skip
    repo = init_repository(folder / "repo", sync=False)
    for key, model in models.items():
        save_model(folder / key, model)
        if key.startswith("chat"):
            dv.commit(repo, str(folder / key), base="old", draft=dv.Draft(key))
        else:
            dv.import_base(repo, str(folder / key), draft=dv.Draft(key))
    return repo


@pytest.fixture(scope="module", params=_FAMILIES)
def models(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return _record(folder, request.param), folder


def _written(repo: dv.Repository, folder: Path, revision: str, name: str) -> dict[str, torch.Tensor]:
    dv.checkout_files(repo, revision, folder / name)
    return loaded(folder / name)[1]


def _same(made: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert made.keys() == wanted.keys()
    for key, value in made.items():
        assert torch.allclose(value, wanted[key], rtol=0, atol=2e-7), key


@pytest.mark.parametrize("target", ["new", "new-own"])
@pytest.mark.parametrize("tuned", ["chat", "chat-own"])
def test_a_transfer_carries_the_head_that_was_trained(models, tuned, target):
    repo, folder = models
    dv.transfer(repo, tuned, target, draft=dv.Draft(f"{target}-{tuned}"))
    made = _written(repo, folder, f"{target}-{tuned}", f"out-{target}-{tuned}")
    t, f, s = (loaded(folder / n)[1] for n in (target, tuned, "old"))
    _same(made, {k: t[k] + f[k] - s[k] for k in t})


def test_a_merge_takes_the_embedding_for_a_tied_head(models):
    repo, folder = models
    one, other = (loaded(folder / n)[1] for n in ("chat", "chat-own"))
    for first, second in (("chat", "chat-own"), ("chat-own", "chat")):
        done = dv.merge(repo, [first, second], draft=dv.Draft(f"of-{first}"))
        assert bool(done.adjusted.untied) == (first == "chat")
        assert done.adjusted.filled == () or first == "chat-own"
        made = _written(repo, folder, f"of-{first}", f"of-{first}")
        _same(made, {k: (one[k] + other[k]) / 2 for k in one})


def test_an_expression_does_too(models):
    repo, folder = models
    one, other, base = (loaded(folder / n)[1] for n in ("chat", "chat-own", "old"))
    made = _written(repo, folder, "chat + 0.5 * (chat-own - old)", "sum")
    _same(made, {k: one[k] + 0.5 * (other[k] - base[k]) for k in one})


def test_the_task_arithmetic_of_both_is_from_the_embedding_of_the_base(models):
    repo, folder = models
    method = dv.MergeMethod("task_arithmetic", {"scale": 0.5})
    dv.merge(repo, ["chat", "chat-own"], method, draft=dv.Draft("arithmetic"))
    one, other, base = (loaded(folder / n)[1] for n in ("chat", "chat-own", "old"))
    made = _written(repo, folder, "arithmetic", "arithmetic")
    _same(made, {k: base[k] + 0.5 * (one[k] - base[k] + other[k] - base[k]) for k in one})


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return _record(folder, "llama-tied"), folder


def test_the_command_says_it_and_so_does_config_json(llama):
    repo, folder = llama
    run = ["--repo", str(repo.path), "transfer", "--from", "chat-own", "--to", "new", "--as", "said"]
    done = CliRunner().invoke(cli, run, catch_exceptions=False)
    assert "lm_head.weight" in done.output
    assert "no longer ties it" in done.output
    dv.checkout_files(repo, "said", folder / "said")
    assert json.loads((folder / "said/config.json").read_text())["tie_word_embeddings"] is False


def test_a_sharded_target_gets_the_head_into_a_shard_and_its_index(llama):
    repo, folder = llama
    model = nudged(ARCHITECTURES["llama-tied"](), seed=8)
    model.save_pretrained(folder / "shards", max_shard_size="20KB")
    dv.import_base(repo, str(folder / "shards"), draft=dv.Draft("shards"))
    dv.transfer(repo, "chat-own", "shards", draft=dv.Draft("sharded"))
    made = _written(repo, folder, "sharded", "sharded")
    t, f, s = (loaded(folder / n)[1] for n in ("shards", "chat-own", "old"))
    _same(made, {k: t[k] + f[k] - s[k] for k in t})
    index = json.loads((folder / "sharded/model.safetensors.index.json").read_text())
    assert index["weight_map"]["lm_head.weight"] == index["weight_map"]["model.embed_tokens.weight"]
    assert index["metadata"]["total_size"] == sum(v.numel() * 4 for v in made.values())


def test_a_head_that_was_saved_twice_stays_tied(llama):
    repo, folder = llama
    model = nudged(ARCHITECTURES["llama-tied"](), seed=3)
    save_model(
        folder / "twice", model, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()}
    )
    dv.commit(repo, str(folder / "twice"), base="old", draft=dv.Draft("twice"))
    (done,) = dv.transfer(repo, "twice", "new", draft=dv.Draft("of-twice"))
    assert done.compatibility.untied == done.compatibility.extra == ()
    _written(repo, folder, "of-twice", "of-twice")
    assert json.loads((folder / "of-twice/config.json").read_text())["tie_word_embeddings"] is True


def test_a_target_that_stores_its_tied_head_twice_is_untied_where_the_head_was_trained(llama):
    repo, folder = llama
    model = nudged(ARCHITECTURES["llama-tied"](), seed=4)
    save_model(
        folder / "double", model, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()}
    )
    dv.import_base(repo, str(folder / "double"), draft=dv.Draft("double"))
    (done,) = dv.transfer(repo, "chat-own", "double", draft=dv.Draft("of-double"))
    assert done.compatibility.untied == ("lm_head.weight",)
    made = _written(repo, folder, "of-double", "of-double")
    t, f, s = (loaded(folder / n)[1] for n in ("double", "chat-own", "old"))
    _same(made, {k: t[k] + f[k] - s[k] for k in t})
    assert json.loads((folder / "of-double/config.json").read_text())["tie_word_embeddings"] is False


def test_the_configuration_of_a_fine_tune_tells_the_truth_as_well(llama):
    repo, folder = llama
    dv.transfer(repo, "chat", "new-own", carrying=dv.Carrying(config="finetune"), draft=dv.Draft("theirs"))
    made = _written(repo, folder, "theirs", "theirs")
    t, f, s = (loaded(folder / n)[1] for n in ("new-own", "chat", "old"))
    _same(made, {k: t[k] + f[k] - s[k] for k in t})
    assert json.loads((folder / "theirs/config.json").read_text())["tie_word_embeddings"] is False


def test_two_models_that_tie_otherwise_have_no_model_between_them(llama, tmp_path):
    repo, _ = llama
    with pytest.raises(dv.InvalidInputError, match="one of them ties lm_head"):
        dv.connectivity(repo, "new", "new-own", "piqa")

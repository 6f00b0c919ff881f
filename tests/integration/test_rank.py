"""Rank, mashup and connectivity on a tiny model: what is found, kept, resumed and refused."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scoring import evaluate
from toys import build_model, build_tokenizer, copy_task, perturbed, save, train
from transformers import AutoTokenizer

import deltavcs.evaluation.bench as evaluation
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError, NotFoundError
from deltavcs.evaluation.encode import encode_examples
from deltavcs.index.statement import query
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.connectivity import connectivity
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model
from deltavcs.porcelain.log import log
from deltavcs.porcelain.mashup import mashup
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.rank import rank
from deltavcs.porcelain.rank_deltas import rank_deltas
from deltavcs.porcelain.task import add_task, list_tasks, remove_task
from deltavcs.porcelain.task import task as show_task
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running
from deltavcs.steps.scorebook import all_scores
from deltavcs.steps.selecting import Selection
from deltavcs.tasks.catalog import find_task
from deltavcs.tasks.reading import read_task
from deltavcs.tasks.sampling import sample_examples
from deltavcs.testing.invariants import check_repository

SIGN = Signature("tester", 1_700_000_000_000_000)
ANIMALS, COLOURS = ["cat", "dog", "cow"], ["red", "blue", "gray"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A base; fine-tunes on two tasks and two random ones; a second base with a fine-tune."""
    root = tmp_path_factory.mktemp("history")
    repo = init_repository(root / "repo", sync=False)
    model = build_model(0)
    import_base(repo, save(model, root / "base"), draft=Draft("base", signature=SIGN))
    for name, words in (("animals", ANIMALS), ("colours", COLOURS)):
        copy_task(root / f"{name}_train.jsonl", words)
        add_task(repo, name, copy_task(root / f"{name}.jsonl", words, seed=1), signature=SIGN)
        tuned = perturbed(model, 0, 0.0)
        examples = read_task(find_task(repo.objects, repo.refs, name)).examples
        train(tuned, encode_examples(examples, build_tokenizer()), steps=30, batch=8, lr=1e-2)
        commit(repo, save(tuned, root / name), base="base", draft=Draft(name, task=name, signature=SIGN))
    for i in (1, 2):
        commit(
            repo, save(perturbed(model, i), root / f"r{i}"), base="base", draft=Draft(f"r{i}", signature=SIGN)
        )
    import_base(repo, save(perturbed(model, 7, 0.01), root / "base2"), draft=Draft("base2", signature=SIGN))
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def repo(root: Path) -> Repository:
    return open_repository(root / "repo")


def sampled(repo: Repository, n: int):
    """The samples of `animals` that rank takes."""
    return sample_examples(read_task(find_task(repo.objects, repo.refs, "animals")), n, seed=0)


def count_forwards(monkeypatch) -> list[str]:
    seen: list[str] = []
    before = evaluation.Bench.evaluate

    def evaluate_and_note(self, subject, **more):
        seen.append(subject.name)
        return before(self, subject, **more)

    monkeypatch.setattr(evaluation.Bench, "evaluate", evaluate_and_note)
    return seen


def test_the_right_checkpoint_ranks_first(repo: Repository) -> None:
    for task in ("animals", "colours"):
        found = rank(repo, task, 2, running=Running(samples=16))
        assert found.ranked[0].name == task
        assert len(found.ranked) == 6
        assert [r.rank for r in found.ranked] == list(range(1, 7))
        assert [r.loss for r in found.ranked] == sorted(r.loss for r in found.ranked)
        assert found.top == found.ranked[:2]
        assert not found.failed
        assert (found.n_samples, found.split) == (16, "train")


def test_scores_equal_an_evaluation_of_the_checked_out_model(repo: Repository) -> None:
    found = rank(repo, "animals", running=Running(batch_size=4, samples=16))
    examples = sampled(repo, 16)
    for one in found.ranked:
        model = load_model(repo, one.name)
        wanted = evaluate(model, build_tokenizer(), examples, split="train", batch_size=4)
        assert one.loss == pytest.approx(wanted.loss, abs=1e-6)
        assert one.accuracy == wanted.exact_match


def test_nothing_is_evaluated_twice(repo: Repository, monkeypatch) -> None:
    seen = count_forwards(monkeypatch)
    first = rank(repo, "animals", running=Running(samples=16))
    assert len(seen) == 6
    again = rank(repo, "animals", running=Running(samples=16), selection=Selection(metric="accuracy"))
    assert len(seen) == 6
    assert {r.loss for r in again.ranked} == {r.loss for r in first.ranked}
    assert all(r.recalled for r in again.ranked)
    rank(repo, "animals", running=Running(samples=8))
    rank(repo, "animals", running=Running(samples=16, seed=1))
    assert len(seen) == 18
    rank(repo, "animals", running=Running(dtype="bfloat16", samples=16))
    assert len(seen) == 24
    assert len(list(all_scores(repo))) == 24


def test_an_interrupted_ranking_goes_on(repo: Repository, monkeypatch) -> None:
    before = evaluation.Bench.evaluate
    calls = []

    def interrupted(self, subject, **more):
        calls.append(subject.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return before(self, subject, **more)

    monkeypatch.setattr(evaluation.Bench, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rank(repo, "animals", running=Running(samples=16))
    monkeypatch.undo()
    seen = count_forwards(monkeypatch)
    found = rank(repo, "animals", running=Running(samples=16))
    assert len(seen) == 3
    assert sum(r.recalled for r in found.ranked) == 3


def test_a_fork_of_content_shares_its_score(repo: Repository, root: Path, monkeypatch) -> None:
    rank(repo, "animals", running=Running(samples=16))
    seen = count_forwards(monkeypatch)
    commit(repo, str(root / "animals"), base="base", draft=Draft("same-again", signature=SIGN))
    found = rank(repo, "animals", running=Running(samples=16))
    assert seen == []
    assert len(found.ranked) == 6


def test_one_model_many_checkpoints(repo: Repository, monkeypatch) -> None:
    built_models = []
    before = evaluation.build_model
    monkeypatch.setattr(evaluation, "build_model", lambda *a, **k: built_models.append(1) or before(*a, **k))
    copied = []
    load = evaluation.StoredModel.load
    monkeypatch.setattr(
        evaluation.StoredModel, "load", lambda self, c: copied.append(load(self, c)) or copied[-1]
    )
    rank(repo, "animals", running=Running(samples=4))
    assert built_models == [1]
    n_tensors = len(repo.manifest(repo.resolve("base")).primary)
    assert copied[0] == 0  # what it was built with
    # Norms are the same in bases and random fine-tunes: nothing is copied for them.
    assert min(copied[1:]) < n_tensors


def test_two_devices_two_models(repo: Repository) -> None:
    one = rank(repo, "animals", running=Running(samples=8))
    for ref in repo.refs.all("refs/scores"):
        repo.storage.delete(ref)
    two = rank(repo, "animals", running=Running(devices=("cpu", "cpu:0"), samples=8))
    assert [r.commit for r in two.ranked] == [r.commit for r in one.ranked]
    assert not any(r.recalled for r in two.ranked)


def test_selection(repo: Repository) -> None:
    def names(**selection) -> set[str]:
        return {
            r.name
            for r in rank(
                repo, "animals", selection=Selection(**selection), running=Running(samples=4)
            ).ranked
        }

    assert names() == {"base", "base2", "animals", "colours", "r1", "r2"}
    assert names(bases=False) == {"animals", "colours", "r1", "r2"}
    assert names(base="base") == {"base", "animals", "colours", "r1", "r2"}
    assert names(base="base2") == {"base2"}
    assert names(where="task = 'colours'") == {"colours"}
    assert "animals" not in names(exclude_tasks=("animals",))
    merge(repo, ["animals", "r1"], draft=Draft("mixed", signature=SIGN))
    assert names(exclude_tasks=("animals",)) == {"base", "base2", "colours", "r1", "r2"}
    with pytest.raises(InvalidInputError) as caught:
        names(where="nonsense = 1")
    assert caught.value.kind is ErrorKind.BAD_SQL
    with pytest.raises(InvalidInputError):
        names(where="true); DROP TABLE commits; --")
    with pytest.raises(NotFoundError):
        names(where="false")


def test_last_of_each_run(repo: Repository, root: Path) -> None:
    commit(
        repo,
        save(perturbed(build_model(0), 31), root / "r1b"),
        base="base",
        draft=Draft("r1", signature=SIGN, force=True),  # noise of its own goes nowhere near the other's
    )
    every = rank(repo, "animals", running=Running(samples=4))
    assert {"r1", "r1~1"} <= {r.name for r in every.ranked}
    last = rank(repo, "animals", selection=Selection(last_only=True), running=Running(samples=4))
    assert "r1~1" not in {r.name for r in last.ranked}


def test_other_architectures(repo: Repository, root: Path) -> None:
    import_base(
        repo, save(build_model(0, hidden_size=32), root / "wide"), draft=Draft("wide", signature=SIGN)
    )
    with pytest.raises(InvalidInputError) as caught:
        rank(repo, "animals", running=Running(samples=4))
    assert "2 architectures" in str(caught.value)
    assert {
        r.name
        for r in rank(repo, "animals", selection=Selection(base="wide"), running=Running(samples=4)).ranked
    } == {"wide"}
    assert (
        len(rank(repo, "animals", selection=Selection(base="base"), running=Running(samples=4)).ranked) == 5
    )


def test_other_settings_get_a_model_of_their_own(repo: Repository, root: Path) -> None:
    """Same shapes, another rotary base: the weights run in their own architecture."""
    model = build_model(0, rope_parameters={"rope_type": "default", "rope_theta": 100.0})
    import_base(repo, save(model, root / "rope"), draft=Draft("rope", signature=SIGN))
    found = rank(repo, "animals", running=Running(samples=8))
    losses = {r.name: r.loss for r in found.ranked}
    assert losses["rope"] != losses["base"]
    wanted = evaluate(
        load_model(repo, "rope"),
        build_tokenizer(),
        sampled(repo, 8),
        split="train",
    )
    assert losses["rope"] == pytest.approx(wanted.loss, abs=1e-6)


def test_checkpoints_that_cannot_run(repo: Repository, root: Path) -> None:
    state = load_file(root / "r1" / "model.safetensors")
    state["lm_head.weight"] = torch.full_like(state["lm_head.weight"], float("nan"))
    (root / "nan").mkdir()
    save_file(state, root / "nan" / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(root / "r1" / "config.json", root / "nan")
    commit(repo, str(root / "nan"), base="base", draft=Draft("nan", signature=SIGN))
    (root / "bare").mkdir()
    save_file({k: v + 1 for k, v in state.items()}, root / "bare" / "model.safetensors")
    commit(repo, str(root / "bare"), base="base", draft=Draft("bare", signature=SIGN))
    found = rank(repo, "animals", running=Running(samples=4))
    assert {f.name: f.why for f in found.failed} == {
        "nan": "its loss is nan",
        "bare": "it has no config.json, so its architecture is not known",
    }
    assert len(found.ranked) == 6
    assert all(np.isfinite(s.loss) for s in all_scores(repo))


def test_adapters(repo: Repository, root: Path) -> None:
    peft = pytest.importorskip("peft")
    for i in (1, 2):
        config = peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        )
        torch.manual_seed(i)
        model = peft.get_peft_model(load_model(repo, "base"), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter += 0.3 * i * torch.randn_like(parameter)
        model.save_pretrained(root / f"lora{i}")
        commit(repo, str(root / f"lora{i}"), base="base", draft=Draft(f"lora{i}", signature=SIGN))
        loaded = peft.PeftModel.from_pretrained(load_model(repo, "base"), str(root / f"lora{i}"))
        examples = read_task(find_task(repo.objects, repo.refs, "animals")).examples[:8]
        assert evaluate(loaded, build_tokenizer(), examples, split="x").loss > 0
    found = rank(repo, "animals", selection=Selection(adapters=True), running=Running(samples=8))
    assert {r.name for r in found.ranked} == {"lora1", "lora2"}
    examples = sampled(repo, 8)
    for one in found.ranked:
        loaded = peft.PeftModel.from_pretrained(load_model(repo, "base"), str(root / one.name)).eval()
        wanted = evaluate(loaded, build_tokenizer(), examples, split="train").loss
        assert one.loss == pytest.approx(wanted, abs=1e-5)
    done = mashup(
        repo,
        "animals",
        selection=Selection(adapters=True),
        draft=Draft("init", signature=SIGN),
        running=Running(samples=8),
    )
    assert repo.commit(done.merged.recorded.commit).kind is Kind.ADAPTER
    checkout_files(repo, "init", root / "init")
    peft.PeftModel.from_pretrained(load_model(repo, "base"), str(root / "init"))
    done = mashup(
        repo,
        "animals",
        method=MergeMethod("dare_ties", {"density": 0.5}, base="lora1"),
        selection=Selection(adapters=True),
        draft=Draft("from-lora1", signature=SIGN),
        running=Running(samples=8),
    )
    assert done.merged.init == repo.resolve("lora1")
    assert done.merged.products is False


def test_an_adapter_is_scored_on_its_base(repo: Repository, root: Path) -> None:
    """The same adapter on two bases is two checkpoints with two scores."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(load_model(repo, "base"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(root / "lora")
    for name, base in (("on-base", "base"), ("on-animals", "animals")):
        commit(repo, str(root / "lora"), base=base, draft=Draft(name, signature=SIGN))
    losses = {}
    for name, base in (("on-base", "base"), ("on-animals", "animals")):
        found = rank(
            repo, "animals", selection=Selection(adapters=True, base=base), running=Running(samples=8)
        )
        assert [r.name for r in found.ranked] == [name]
        loaded = peft.PeftModel.from_pretrained(load_model(repo, base), str(root / "lora")).eval()
        wanted = evaluate(loaded, build_tokenizer(), sampled(repo, 8), split="train").loss
        assert found.ranked[0].loss == pytest.approx(wanted, abs=1e-5)
        losses[name] = found.ranked[0].loss
    assert losses["on-base"] != losses["on-animals"]
    shown = {e.names[0]: e.scores[0].loss for e in log(repo) if e.names and e.names[0] in losses}
    assert shown == losses


def test_the_score_that_says_most_is_shown_first(repo: Repository) -> None:
    for samples, dtype in ((4, None), (16, None), (16, "bfloat16"), (1000, "bfloat16")):
        rank(repo, "animals", running=Running(dtype=dtype, samples=samples))
    full = len(read_task(find_task(repo.objects, repo.refs, "animals")).examples)
    entry = next(e for e in log(repo) if "animals" in e.names)
    assert [(s.samples, s.dtype) for s in entry.scores] == [
        (full, "BF16"), (16, "auto"), (16, "BF16"), (4, "auto"),
    ]  # fmt: skip
    assert all(s.seed == 0 and s.split == "train" for s in entry.scores)
    assert query(repo.index, "SELECT n_scored FROM tasks WHERE name = 'animals'").rows == [(6,)]


def test_asking_for_more_rows_than_there_are_is_the_same_question(repo: Repository, monkeypatch) -> None:
    seen = count_forwards(monkeypatch)
    rank(repo, "animals", running=Running(samples=1000))
    rank(repo, "animals", running=Running(samples=2000))
    assert len(seen) == 6


def test_mashup_then_train_then_commit(repo: Repository, root: Path) -> None:
    done = mashup(
        repo, "animals", 2, draft=Draft("animals-init", signature=SIGN), running=Running(samples=16)
    )
    assert done.chosen[0].name == "animals"
    assert "base" not in [r.name for r in done.ranking.ranked]
    value = repo.commit(repo.resolve("animals-init"))
    assert value.kind is Kind.MERGE
    assert value.parents_as(Role.INPUT) == tuple(c.commit for c in done.chosen)
    assert value.parent_as(Role.BASE) == repo.resolve("base")
    assert value.metadata["mashup.input.1"].startswith(f"{done.chosen[0].commit} animals: loss ")
    assert done.merged.recorded.stored_bytes < 40_000
    checkout_files(repo, "animals-init", root / "init")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(root / "init")
    examples = read_task(find_task(repo.objects, repo.refs, "animals")).examples
    train(model, encode_examples(examples, build_tokenizer()), steps=3, batch=4, lr=1e-3)
    model.save_pretrained(root / "init")
    trained = commit(repo, str(root / "init"), draft=Draft("animals-tuned", task="animals", signature=SIGN))
    assert trained.base.how == "marker"
    assert trained.base.commit == repo.resolve("animals-init")
    check_repository(root / "repo")


def test_mashup_by_score_and_too_few(repo: Repository) -> None:
    done = mashup(
        repo,
        "animals",
        3,
        draft=Draft("m", signature=SIGN),
        method=MergeMethod("weighted"),
        running=Running(samples=8),
    )
    weights = done.merged.parameters["weights"]
    assert weights[0] == 1.0
    assert list(weights) == sorted(weights, reverse=True)
    with pytest.raises(InvalidInputError):
        mashup(repo, "animals", 9, draft=Draft("m2", signature=SIGN), running=Running(samples=8))
    with pytest.raises(DeltaVCSError):
        mashup(repo, "animals", 0, draft=Draft("m2", signature=SIGN), running=Running(samples=8))


@pytest.mark.parametrize("method", ["fisher", "regmean"])
def test_merging_by_statistics(repo: Repository, root: Path, method: str) -> None:
    done = merge(
        repo,
        ["animals", "colours"],
        running=Running(samples=12),
        draft=Draft("m", signature=SIGN),
        method=MergeMethod(method),
    )
    assert repo.commit(done.recorded.commit).metadata["merge.method"] == method
    model = load_model(repo, "m")
    plain = merge(repo, ["animals", "colours"], draft=Draft("avg", signature=SIGN))
    tokenizer = build_tokenizer()
    losses = {}
    for name, one in (("m", model), ("avg", load_model(repo, "avg"))):
        losses[name] = sum(
            evaluate(
                one, tokenizer, read_task(find_task(repo.objects, repo.refs, t)).examples, split="x"
            ).loss
            for t in ("animals", "colours")
        )
    assert losses["m"] < losses["avg"]
    assert plain.recorded.stored_bytes < done.recorded.stored_bytes < done.recorded.raw_bytes
    sql = "SELECT DISTINCT codec FROM tensors WHERE commit = ?"
    codecs = {word for (word,) in query(repo.index, sql, [done.recorded.commit]).rows}
    assert codecs - {"derived", "raw"}
    check_repository(root / "repo")


def test_statistics_need_rows(repo: Repository) -> None:
    with pytest.raises(InvalidInputError) as caught:
        merge(repo, ["animals", "r1"], draft=Draft("m", signature=SIGN), method=MergeMethod("fisher"))
    assert "r1 was committed without a task" in str(caught.value)


def test_rank_for_a_base(repo: Repository, root: Path) -> None:
    far = save(perturbed(build_model(0), 99, 0.5), root / "far")
    import_base(repo, far, draft=Draft("far", signature=SIGN))
    tuned = save(perturbed(build_model(0), 99, 0.51), root / "far-tuned")
    commit(repo, tuned, base="far", draft=Draft("far-tuned", signature=SIGN))
    commit(
        repo,
        save(perturbed(build_model(0), 7, 0.02), root / "b2t"),
        base="base2",
        draft=Draft("b2t", signature=SIGN),
    )
    found = rank_deltas(repo, "base2")
    assert [r.source_name for r in found.ranked] == ["base"] * 4 + ["far"]
    assert "b2t" not in {r.delta_name for r in found.ranked}
    drifts = [r.relative_drift for r in found.ranked]
    assert drifts == sorted(drifts)
    wanted = transfer(repo, "r1", "base2", dry_run=True, draft=Draft(signature=SIGN))[0].geometry["all"]
    mine = next(r for r in found.ranked if r.delta_name == "r1")
    assert (mine.relative_drift, mine.cosine) == (wanted.relative_drift, wanted.cosine)


def test_connectivity(repo: Repository, root: Path) -> None:
    before = repo.refs.all()
    found = connectivity(repo, "animals", "colours", "animals", points=5, running=Running(samples=16))
    ranked = {r.name: r.loss for r in rank(repo, "animals", running=Running(samples=16)).ranked}
    assert found.curve.losses[0] == pytest.approx(ranked["animals"], abs=1e-6)
    assert found.curve.losses[-1] == pytest.approx(ranked["colours"], abs=1e-6)
    middle = load_model(repo, "0.5 * animals + 0.5 * colours")
    examples = sampled(repo, 16)
    wanted = evaluate(middle, build_tokenizer(), examples, split="x").loss
    assert found.curve.losses[2] == pytest.approx(wanted, abs=1e-6)
    assert "●" in found.text()
    assert found.svg().startswith("<svg")
    assert {r for r in repo.refs.all() if "scores" not in r} == set(before)


def test_tasks(repo: Repository, root: Path) -> None:
    assert [t.name for t in list_tasks(repo)][:2] == ["animals", "colours"]
    report = show_task(repo, "animals")
    assert len(report.examples) == 3
    assert report.n_rows == 40
    rows = copy_task(root / "new.jsonl", ["x"])
    with pytest.raises(InvalidInputError):
        add_task(repo, "animals", rows, signature=SIGN)
    add_task(repo, "animals", rows, force=True, signature=SIGN)
    assert show_task(repo, "animals").fingerprint != report.fingerprint
    remove_task(repo, "animals", signature=SIGN)
    with pytest.raises(NotFoundError):
        find_task(repo.objects, repo.refs, "animals")
    (root / "bad.jsonl").write_text(json.dumps({"prompt": "x"}) + "\n")
    with pytest.raises(InvalidInputError) as caught:
        add_task(repo, "bad", root / "bad.jsonl", signature=SIGN)
    assert "bad.jsonl:1" in str(caught.value)
    piqa = {"question": "q", "choices": ["a", "b"], "label": 0}
    (root / "piqa.jsonl").write_text(json.dumps(piqa) + "\n")
    shown = add_task(repo, "piqa", root / "piqa.jsonl", signature=SIGN)
    assert "Goal: q" in shown.examples[0].prompt


def test_threads_build_models_at_the_same_time(repo: Repository, root: Path) -> None:
    """transformers swaps globals while it builds a model: one worker per GPU must not see the other's."""
    import_base(
        repo,
        save(build_model(0, tie_word_embeddings=True), root / "tied"),
        draft=Draft("tied", signature=SIGN),
    )
    wanted = load_model(repo, "tied").state_dict()

    def build() -> list[bool]:
        models = (load_model(repo, "tied") for _ in range(10))
        return [all(torch.equal(wanted[k], v) for k, v in m.state_dict().items()) for m in models]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert all(all(done.result()) for done in [pool.submit(build) for _ in range(4)])
    finally:
        sys.setswitchinterval(interval)
    after = load_model(repo, "tied")
    assert after.lm_head.weight is after.model.embed_tokens.weight
    assert not any(p.is_meta for p in after.parameters()) and torch.get_default_dtype() == torch.float32


def test_a_checkpoint_that_cannot_be_asked_does_not_stop_the_others(repo: Repository, root: Path) -> None:
    """A tokenizer with more ids than the model has rows, and a chat template that fails."""
    names = []
    for name in ("ids", "template"):
        folder = Path(save(perturbed(build_model(0), 40), root / name))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if name == "ids":
            tokenizer.add_tokens([f"q{i}" for i in range(60)] + "at he is an or in on er re ca do".split())
        else:
            tokenizer.chat_template = "{{ raise_exception('no') }}"
        tokenizer.save_pretrained(folder)
        commit(repo, str(folder), base="base", draft=Draft(name, signature=SIGN))
        names.append(name)
    found = rank(repo, "animals", running=Running(samples=8))
    assert {r.name for r in found.ranked}.isdisjoint(names) and len(found.ranked) == 6
    assert {f.name for f in found.failed} == set(names)
    whys = " ".join(f.why for f in found.failed)
    assert "embedding rows" in whys and "chat template fails" in whys

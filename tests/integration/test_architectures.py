"""Every family is loaded as `from_pretrained` loads it and ranked by the loss of a fresh load, to the bit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import (
    ARCHITECTURES,
    OTHER_ARCHITECTURES,
    nudged,
    spelling_tokenizer,
    word_tokenizer,
)
from scoring import evaluate

from deltavcs.errors import InvalidInputError
from deltavcs.merging.settings import MergeMethod
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.connectivity import connectivity
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model
from deltavcs.porcelain.mashup import mashup
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.rank import rank
from deltavcs.porcelain.task import add_task
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running
from deltavcs.steps.selecting import Selection
from deltavcs.tasks.catalog import find_task
from deltavcs.tasks.reading import read_task

_CLOCK = itertools.count(1_700_000_000_000_000)
ONE_BATCH = Running(batch_size=8)


def signed(name: str) -> Draft:
    return Draft(name, signature=Signature("tester", next(_CLOCK)))


def history(root: Path, made: Any) -> Repository:
    """A base and two fine-tunes of it, with a tokenizer and a task of eight rows."""
    repo = init_repository(root / "repo", sync=False)
    tokenizer = spelling_tokenizer() if made().config.model_type == "qwen2" else word_tokenizer()
    for name, model in (("base", made()), ("a", nudged(made(), seed=1)), ("b", nudged(made(), seed=2))):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        if name == "base":
            import_base(repo, str(root / name), draft=signed(name))
        else:
            commit(repo, str(root / name), base="base", draft=signed(name))
    rows = [{"prompt": f"w{i} w{i + 1}", "answer": f"w{i + 2}"} for i in range(8)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    add_task(repo, "t", root / "rows.jsonl", signature=Signature("tester", next(_CLOCK)))
    return repo


def fresh(made: Any, folder: Path, **options: Any) -> Any:
    return type(made()).from_pretrained(folder, **options)


def fresh_loss(repo: Repository, made: Any, folder: Path) -> float:
    from transformers import AutoTokenizer

    examples = read_task(find_task(repo.objects, repo.refs, "t")).examples
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return evaluate(fresh(made, folder), tokenizer, examples, split="x", batch_size=8).loss


def same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    ours, theirs = ({**model.state_dict(), **dict(model.named_buffers())} for model in (found, wanted))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_family_is_loaded_and_ranked_as_a_fresh_load(family: str, tmp_path: Path) -> None:
    made = ARCHITECTURES[family]
    repo = history(tmp_path, made)
    found = load_model(repo, "a")
    wanted = fresh(made, tmp_path / "a")
    same(found, wanted)
    assert found.generation_config.to_dict() == wanted.generation_config.to_dict()
    ranking = rank(repo, "t", running=ONE_BATCH)
    assert {one.name for one in ranking.ranked} == {"base", "a", "b"}
    for one in ranking.ranked:
        assert one.loss == fresh_loss(repo, made, tmp_path / one.name)
    assert len({one.loss for one in ranking.ranked}) == 3


@pytest.mark.parametrize("family", ["mixtral", "gemma3", "mamba"])
def test_another_dtype_is_rounded_as_from_pretrained_does(family: str, tmp_path: Path) -> None:
    made = ARCHITECTURES[family]
    repo = history(tmp_path, made)
    same(load_model(repo, "a", dtype="bf16"), fresh(made, tmp_path / "a", dtype=torch.bfloat16))


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3", "llava"])
def test_a_mashup_and_a_segment_of_fused_weights(family: str, tmp_path: Path) -> None:
    made = ARCHITECTURES[family]
    repo = history(tmp_path, made)
    mashup(repo, "t", 2, draft=signed("init"), selection=Selection(bases=False), running=ONE_BATCH)
    merged = load_model(repo, "init").state_dict()
    a, b = (fresh(made, tmp_path / name).state_dict() for name in "ab")
    for name, tensor in merged.items():
        middle = ((a[name].double() + b[name].double()) / 2).to(tensor.dtype)
        assert torch.equal(tensor, middle), name
    segment = connectivity(repo, "a", "b", "t", points=3, running=ONE_BATCH)
    ends = [fresh_loss(repo, made, tmp_path / name) for name in "ab"]
    assert [segment.curve.losses[0], segment.curve.losses[-1]] == ends
    init = next(one for one in rank(repo, "t", running=ONE_BATCH).ranked if one.name == "init")
    assert segment.curve.losses[1] == init.loss


def test_experts_weigh_by_their_own_fisher_information(tmp_path: Path) -> None:
    """With the Fisher information of each expert, taken from the fused gradients of transformers itself."""
    made = ARCHITECTURES["mixtral"]
    repo = history(tmp_path, made)
    merge(repo, ["a", "b"], method=MergeMethod("fisher", {"floor": 1e-12}), tasks=("t",), draft=signed("fi"))
    from deltavcs.evaluation.encode import encode_examples
    from deltavcs.merging.statistics import diagonal_fisher

    examples = read_task(find_task(repo.objects, repo.refs, "t")).examples
    samples = encode_examples(examples, word_tokenizer())
    models = [fresh(made, tmp_path / name) for name in "ab"]
    fishers = [diagonal_fisher(model, samples) for model in models]
    found = load_model(repo, "fi").state_dict()
    for name, tensor in found.items():
        weights = [f[name].double().clamp(min=1e-12) for f in fishers]
        values = [m.state_dict()[name].double() for m in models]
        wanted = (weights[0] * values[0] + weights[1] * values[1]) / (weights[0] + weights[1])
        assert torch.allclose(tensor.double(), wanted, atol=1e-6), name


@pytest.mark.parametrize("family", ["bert", "bert-mlm", "t5", "bart"])
def test_what_continues_no_text_is_loaded_but_not_ranked(family: str, tmp_path: Path) -> None:
    made = OTHER_ARCHITECTURES[family]
    repo = history(tmp_path, made)
    same(load_model(repo, "a"), fresh(made, tmp_path / "a"))
    ranking = rank(repo, "t", running=ONE_BATCH)
    assert not ranking.ranked
    assert {one.why for one in ranking.failed} == {f"{type(made()).__name__} is no causal language model"}
    with pytest.raises(InvalidInputError, match=r"^a: .*no causal language model"):
        connectivity(repo, "a", "b", "t", running=ONE_BATCH)


def test_a_bare_gpt2_is_ranked_with_its_tied_head(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    made = OTHER_ARCHITECTURES["gpt2-bare"]
    repo = history(tmp_path, made)
    same(load_model(repo, "a"), fresh(made, tmp_path / "a"))
    examples = read_task(find_task(repo.objects, repo.refs, "t")).examples
    for one in rank(repo, "t", running=ONE_BATCH).ranked:
        model = GPT2LMHeadModel.from_pretrained(tmp_path / one.name)
        assert one.loss == evaluate(model, word_tokenizer(), examples, split="x", batch_size=8).loss


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Repository, Path]]:
    """Llamas, and beside them one of a type with code of its own that would leave a file behind."""
    root = tmp_path_factory.mktemp("mixed")
    repo = history(root, ARCHITECTURES["llama"])
    nudged(ARCHITECTURES["llama"](), seed=3).save_pretrained(root / "odd")
    word_tokenizer().save_pretrained(root / "odd")
    config = json.loads((root / "odd/config.json").read_bytes())
    config |= {"model_type": "odd", "architectures": ["Odd"], "auto_map": {"AutoModelForCausalLM": "odd.Odd"}}
    (root / "odd/config.json").write_text(json.dumps(config))
    settings = json.loads((root / "odd/tokenizer_config.json").read_bytes())
    settings |= {"tokenizer_class": "OddTokenizer", "auto_map": {"AutoTokenizer": [None, "odd.OddTokenizer"]}}
    (root / "odd/tokenizer_config.json").write_text(json.dumps(settings))
    (root / "odd/odd.py").write_text(f"open({str(root / 'ran')!r}, 'w')\n")
    commit(repo, str(root / "odd"), base="base", draft=signed("odd"))
    yield repo, root
    assert not (root / "ran").exists()


def test_code_of_a_checkpoint_is_named_and_stops_no_ranking(mixed: tuple[Repository, Path]) -> None:
    repo, _ = mixed
    ranking = rank(repo, "t", running=ONE_BATCH)
    assert {one.name for one in ranking.ranked} == {"base", "a", "b"}
    (odd,) = ranking.failed
    assert odd.name == "odd"
    assert "needs code of its own, which is never run" in odd.why


def test_code_of_a_checkpoint_is_never_run(mixed: tuple[Repository, Path]) -> None:
    from deltavcs.porcelain.load import load_tokenizer

    repo, _ = mixed
    for load in (load_model, load_tokenizer):
        with pytest.raises(InvalidInputError, match=r"^odd: .*needs code of its own, which is never run"):
            load(repo, "odd")


def test_a_trained_head_that_the_configuration_ties_is_used(tmp_path: Path) -> None:
    """transformers takes both where the file has both; a swap from one that has them equal must as well."""
    made = ARCHITECTURES["llama"]
    repo = init_repository(tmp_path / "repo", sync=False)
    for name, seed in (("base", 0), ("a", 1), ("equal", 2), ("b", 3)):
        model = nudged(made(), seed=seed)
        if name == "equal":
            model.lm_head.weight.data.copy_(model.model.embed_tokens.weight.data)
        model.save_pretrained(tmp_path / name)
        word_tokenizer().save_pretrained(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_bytes())
        (tmp_path / name / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
        import_base(repo, str(tmp_path / name), draft=signed(name))
    rows = [{"prompt": f"w{i} w{i + 1}", "answer": f"w{i + 2}"} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    add_task(repo, "t", tmp_path / "rows.jsonl", signature=Signature("tester", next(_CLOCK)))
    assert not torch.equal(
        load_model(repo, "a").lm_head.weight, load_model(repo, "a").model.embed_tokens.weight
    )
    ranking = rank(repo, "t", running=ONE_BATCH)
    assert {one.name: one.loss for one in ranking.ranked} == {
        name: fresh_loss(repo, made, tmp_path / name) for name in ("base", "a", "equal", "b")
    }


def test_what_becomes_one_model_is_ranked_together(tmp_path: Path) -> None:
    """A tied base, a fine-tune with the head in its file too, and one with buffers of older days."""
    from safetensors.torch import load_file, save_file

    made = ARCHITECTURES["llama-tied"]
    repo = history(tmp_path, made)
    for name in ("a", "b"):
        state = load_file(tmp_path / name / "model.safetensors")
        more = (
            {"lm_head.weight": state["model.embed_tokens.weight"].clone()}
            if name == "a"
            else {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
        )
        save_file(state | more, tmp_path / name / "model.safetensors", {"format": "pt"})
        import_base(repo, str(tmp_path / name), draft=signed(f"{name}-more"))
    ranking = rank(repo, "t", running=ONE_BATCH)
    losses = {one.name: one.loss for one in ranking.ranked}
    assert losses.keys() == {"base", "a", "b", "a-more", "b-more"}
    assert (losses["a-more"], losses["b-more"]) == (losses["a"], losses["b"])


def test_a_model_that_fails_when_it_runs_stops_no_ranking(
    monkeypatch: pytest.MonkeyPatch, mixed: tuple[Repository, Path]
) -> None:
    from transformers import LlamaForCausalLM

    repo, _ = mixed

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        raise RuntimeError("shape '[32, 0]' is invalid\nand more")

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    ranking = rank(repo, "t", running=Running(batch_size=8, samples=5))
    assert {(one.name, one.why) for one in ranking.failed if one.name != "odd"} == {
        (name, "running it fails: shape '[32, 0]' is invalid") for name in ("base", "a", "b")
    }

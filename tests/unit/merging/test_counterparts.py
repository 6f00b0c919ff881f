"""Tensors meet by what they are in the model; what a model does without stands in nobody's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, nudged
from saved_models import Tensors, loaded, save_model

import deltavcs as dv
from deltavcs.merging.counterparts import MergeInput, find_counterparts
from deltavcs.objects.model import Manifest
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint

Edit = Callable[[Tensors], Tensors]


def _models(repo: dv.Repository, folder: Path, name: str, old: Edit | None, new: Edit | None) -> None:
    """Base old and a fine-tune chat of it, saved alike; base new, saved in its own way."""
    make = {**ARCHITECTURES, **OTHER_ARCHITECTURES}[name]
    for key, seed, edit in (("old", 4, old), ("new", 5, new), ("chat", 6, old)):
        save_model(folder / key, nudged(make(), seed=seed), edit)
    dv.import_base(repo, str(folder / "old"), draft=dv.Draft("old"))
    dv.import_base(repo, str(folder / "new"), draft=dv.Draft("new"))
    dv.commit(repo, str(folder / "chat"), base="old", draft=dv.Draft("chat"))


def _manifest(repo: dv.Repository, name: str) -> Manifest:
    return repo.manifest(repo.resolve(name))


def _rotary(tensors: Tensors) -> Tensors:
    return {
        **tensors,
        **{f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.arange(4.0) for i in (0, 1)},
    }


def _causal_masks(tensors: Tensors) -> Tensors:
    mask = torch.ones(1, 1, 64, 64).tril()
    return {**tensors, **{f"transformer.h.{i}.attn.bias": mask.clone() for i in (0, 1)}}


def _byte_masks(tensors: Tensors) -> Tensors:
    return {**tensors, **{k: v.to(torch.uint8) for k, v in _causal_masks({}).items()}}


def _positions(tensors: Tensors) -> Tensors:
    return {**tensors, "bert.embeddings.position_ids": torch.arange(64)[None]}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("llama", _rotary, None),
        ("llama", None, _rotary),
        ("gpt2", _causal_masks, None),
        ("gpt2", _causal_masks, _byte_masks),
        ("bert-mlm", _positions, None),
        ("bert-mlm", None, _positions),
    ],
)
def test_a_buffer_that_a_family_once_saved_stops_nothing(repo, tmp_path, name, old, new):
    _models(repo, tmp_path, name, old, new)
    (done,) = dv.transfer(repo, "chat", "new", draft=dv.Draft("carried"))
    merged = dv.merge(repo, ["new", "chat"], draft=dv.Draft("both"))
    assert done.compatibility.ignored and merged.adjusted.ignored
    assert done.compatibility.missing == done.compatibility.extra == ()
    t, f, s = (loaded(tmp_path / n)[1] for n in ("new", "chat", "old"))
    for branch, wanted in (("carried", lambda k: t[k] + f[k] - s[k]), ("both", lambda k: (t[k] + f[k]) / 2)):
        dv.checkout_files(repo, branch, tmp_path / branch)
        made = loaded(tmp_path / branch)[1]
        assert all(torch.allclose(made[k], wanted(k), rtol=0, atol=2e-7) for k in t)


def test_a_weight_is_no_buffer(repo, tmp_path):
    _models(repo, tmp_path, "llama", None, lambda t: {k: v for k, v in t.items() if "norm" not in k})
    with pytest.raises(dv.InvalidInputError, match=r"norm\.weight is not in new"):
        dv.merge(repo, ["chat", "new"], draft=dv.Draft("both"))


def _bare(tensors: Tensors) -> Tensors:
    return {k.removeprefix("transformer."): v for k, v in tensors.items()}


def _compiled(tensors: Tensors) -> Tensors:
    return {f"_orig_mod.{k}": v for k, v in tensors.items()}


def _as_in_memory(tensors: Tensors) -> Tensors:
    """LLaVA as transformers calls it in memory, and saved it for a while."""
    names = {k: k.replace("language_model.model.", "model.language_model.") for k in tensors}
    names |= {k: "lm_head.weight" for k in tensors if k == "language_model.lm_head.weight"}
    others = ("vision_tower.", "multi_modal_projector.")
    names |= {k: f"model.{k}" for k in tensors if k.startswith(others)}
    return {names[k]: v for k, v in tensors.items()}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("gpt2", None, _bare),
        ("gpt2", _bare, None),
        ("llava", None, _as_in_memory),
        ("llava", _as_in_memory, None),
    ],
)
def test_other_names_of_the_same_tensors_meet(repo, tmp_path, name, old, new):
    _models(repo, tmp_path, name, old, new)
    (done,) = dv.transfer(repo, "chat", "new", draft=dv.Draft("carried"))
    assert len(done.compatibility.renamed) == len(done.compatibility.matched)
    t, f, s = (loaded(tmp_path / n)[1] for n in ("new", "chat", "old"))
    dv.checkout_files(repo, "carried", tmp_path / "carried")
    dv.checkout_files(repo, "0.5 * chat + 0.5 * new", tmp_path / "half")
    carried, half = (loaded(tmp_path / n)[1] for n in ("carried", "half"))
    for key in t:
        assert torch.allclose(carried[key], t[key] + f[key] - s[key], rtol=0, atol=2e-7), key
        assert torch.allclose(half[key], (t[key] + f[key]) / 2, rtol=0, atol=2e-7), key


def test_a_wrapped_fine_tune_is_carried_over_and_no_wrapped_model_leads(repo, tmp_path):
    _models(repo, tmp_path, "llama", _compiled, None)
    (done,) = dv.transfer(repo, "chat", "new", draft=dv.Draft("carried"))
    assert done.compatibility.missing == done.compatibility.extra == ()
    dv.merge(repo, ["new", "chat"], draft=dv.Draft("both"))
    with pytest.raises(dv.InvalidInputError, match=r"chat spells its tensors as no model can load them"):
        dv.merge(repo, ["chat", "new"], draft=dv.Draft("other"))


def test_a_new_head_of_the_fine_tune_comes_along_with_its_configuration(repo, tmp_path):
    for key, seed in (("old", 4), ("new", 5)):
        save_model(tmp_path / key, nudged(OTHER_ARCHITECTURES["bert"](), seed=seed))
        dv.import_base(repo, str(tmp_path / key), draft=dv.Draft(key))
    torch.manual_seed(1)
    chat = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "old", num_labels=3)
    save_model(tmp_path / "chat", nudged(chat, seed=6))
    dv.commit(repo, str(tmp_path / "chat"), base="old", draft=dv.Draft("chat"))
    heads = ("classifier.bias", "classifier.weight")
    (left,) = dv.transfer(repo, "chat", "new", draft=dv.Draft("bare"))
    (done,) = dv.transfer(
        repo, "chat", "new", carrying=dv.Carrying(config="finetune"), draft=dv.Draft("whole")
    )
    assert (left.compatibility.extra, left.compatibility.added) == (heads, ())
    assert (done.compatibility.extra, done.compatibility.added) == ((), heads)
    dv.checkout_files(repo, "whole", tmp_path / "whole")
    (model, made), (_, tuned) = loaded(tmp_path / "whole"), loaded(tmp_path / "chat")
    assert type(model).__name__ == "BertForSequenceClassification"
    t, s = (loaded(tmp_path / n)[1] for n in ("new", "old"))
    for key, value in made.items():
        bare = key.removeprefix("bert.")
        wanted = tuned[key] if key in heads else t[bare] + tuned[key] - s[bare]
        assert torch.allclose(value, wanted, rtol=0, atol=2e-7), key


def test_experts_one_by_one_and_together_are_refused_by_name(repo, tmp_path):
    model = nudged(ARCHITECTURES["mixtral"](), seed=5)
    together = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    _models(repo, tmp_path, "mixtral", None, lambda t: together)
    for act in (
        lambda: dv.transfer(repo, "chat", "new", draft=dv.Draft("carried")),
        lambda: dv.merge(repo, ["new", "chat"], draft=dv.Draft("both")),
    ):
        with pytest.raises(dv.InvalidInputError, match=r"experts\.\w+ of both, but of other parts"):
            act()


def test_where_names_agree_no_model_is_built(repo, tmp_path, monkeypatch):
    tensors = {"a.weight": raw_tensor("F32", (4, 4)), "b.weight": raw_tensor("F32", (4, 4), seed=1)}
    for name, seed in (("one", 0), ("two", 7)):
        shifted = {k: raw_tensor("F32", t.shape, seed=seed + i) for i, (k, t) in enumerate(tensors.items())}
        write_checkpoint(tmp_path / name, shifted)
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
        dv.import_base(repo, str(tmp_path / name), draft=dv.Draft(name))
    monkeypatch.setattr("deltavcs.merging.counterparts.anatomy_of", None)
    operands = [MergeInput(n, _manifest(repo, n)) for n in ("one", "two")]
    assert set(find_counterparts(repo.objects, operands).complete()) == set(tensors)


def test_models_of_other_depths_are_refused(repo, tmp_path):
    tensors = {f"model.layers.{i}.weight": raw_tensor("F32", (4, 4), seed=i) for i in range(3)}
    for name, depth in (("old", 2), ("new", 3)):
        write_checkpoint(tmp_path / name, dict(list(tensors.items())[:depth]))
        dv.import_base(repo, str(tmp_path / name), draft=dv.Draft(name))
    write_checkpoint(tmp_path / "chat", {k: raw_tensor("F32", (4, 4), seed=9) for k in list(tensors)[:2]})
    dv.commit(repo, str(tmp_path / "chat"), base="old", draft=dv.Draft("chat"))
    with pytest.raises(dv.InvalidInputError, match=r"new has model\.layers\.2, and chat, old does not"):
        dv.transfer(repo, "chat", "new", draft=dv.Draft("carried"))


def test_a_kept_buffer_that_would_not_grow_with_the_vocabulary_is_refused(repo, tmp_path):
    def without(tensors: Tensors) -> Tensors:
        return {k: v for k, v in tensors.items() if k != "final_logits_bias"}

    grown = nudged(OTHER_ARCHITECTURES["bart"](), seed=6)
    grown.resize_token_embeddings(67, mean_resizing=False)
    save_model(tmp_path / "old", nudged(OTHER_ARCHITECTURES["bart"](), seed=4), without)
    save_model(tmp_path / "new", nudged(OTHER_ARCHITECTURES["bart"](), seed=5))
    save_model(tmp_path / "chat", grown, without)
    for name in ("old", "new"):
        dv.import_base(repo, str(tmp_path / name), draft=dv.Draft(name))
    dv.commit(repo, str(tmp_path / "chat"), base="old", draft=dv.Draft("chat"))
    with pytest.raises(dv.InvalidInputError, match="final_logits_bias would grow"):
        dv.transfer(repo, "chat", "new", draft=dv.Draft("carried"))

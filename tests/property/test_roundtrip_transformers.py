"""transformers loads every checkout, transferred ones too, and computes what it computed before."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from deltavcs.porcelain.checkout import checkout_files  # noqa: E402
from deltavcs.porcelain.commit import commit  # noqa: E402
from deltavcs.porcelain.import_ import import_base  # noqa: E402
from deltavcs.porcelain.load import load_model  # noqa: E402
from deltavcs.porcelain.transfer import transfer  # noqa: E402
from deltavcs.steps.recording import Draft  # noqa: E402


def tiny_llama(seed, dtype=torch.float32, vocab=64, tied=False):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).to(dtype)


def nudged(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_((0.01 * torch.randn(p.shape, generator=generator)).to(p.dtype))
    return model


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype="auto")


def same_model(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["one file", "sharded", "tied"])
def test_from_pretrained_loads_checkouts_and_transfers(repo, tmp_path, sign, dtype, form):
    size = {"max_shard_size": "20KB"} if form == "sharded" else {}
    models = {
        "v1": tiny_llama(0, dtype, tied=form == "tied"),
        "v2": nudged(tiny_llama(0, dtype, tied=form == "tied"), 7),
        "tuned": nudged(tiny_llama(0, dtype, tied=form == "tied"), 8),
    }
    for name, model in models.items():
        model.save_pretrained(tmp_path / name, **size)
        if name == "tuned":
            commit(repo, str(tmp_path / name), base="v1", draft=Draft(name, signature=sign()))
        else:
            import_base(repo, str(tmp_path / name), draft=Draft(name, signature=sign()))
    transfer(repo, "v1", "v2", draft=Draft(signature=sign()))
    for name, model in models.items():
        checkout_files(repo, name, tmp_path / f"out-{name}")
        same_model(load(tmp_path / f"out-{name}"), model)
    for i, text in enumerate(["v2+tuned", "v2 + (tuned - v1)"]):
        checkout_files(repo, text, tmp_path / f"moved-{i}")
        moved = load(tmp_path / f"moved-{i}").state_dict()
        v1, v2, tuned = (models[n].state_dict() for n in ("v1", "v2", "tuned"))
        for name in v2:
            expected = v2[name].double() + (tuned[name].double() - v1[name].double())
            assert torch.equal(moved[name].double(), expected.to(dtype).double()), name


def test_a_transfer_with_a_grown_vocabulary_loads(repo, tmp_path, sign):
    old, new = tiny_llama(0), nudged(tiny_llama(0), 7)
    tuned = nudged(tiny_llama(0), 8)
    tuned.resize_token_embeddings(70, mean_resizing=False)
    for name, model in {"v1": old, "v2": new, "tuned": tuned}.items():
        model.save_pretrained(tmp_path / name)
    import_base(repo, str(tmp_path / "v1"), draft=Draft("v1", signature=sign()))
    import_base(repo, str(tmp_path / "v2"), draft=Draft("v2", signature=sign()))
    commit(repo, str(tmp_path / "tuned"), base="v1", draft=Draft("tuned", signature=sign()))
    transfer(repo, "tuned", "v2", draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    model = load(tmp_path / "out")
    assert model.config.vocab_size == 70 and model.lm_head.weight.shape == (70, 32)
    assert torch.isfinite(model(torch.tensor([[1, 69, 65]])).logits).all()


def test_load_model_needs_no_directory(repo, tmp_path, sign):
    model = tiny_llama(3)
    model.save_pretrained(tmp_path / "m")
    import_base(repo, str(tmp_path / "m"), draft=Draft("m", signature=sign()))
    same_model(load_model(repo, "m"), model)

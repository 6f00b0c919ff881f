"""Checkpoints of one model under the names of several versions of transformers."""

from __future__ import annotations

import shutil

import pytest

from deltavcs.checkpoint.correspondence import correspond
from deltavcs.checkpoint.matching import match, of_source, respelled
from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.objects.model import Manifest, TensorEntry

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A tiny LLaVA as it is saved, as it is in memory, and its language model."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    text = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    sight = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=8,
        patch_size=4, projection_dim=8,
    )  # fmt: skip
    config = transformers.LlavaConfig(vision_config=sight, text_config=text, image_token_index=31)
    model = transformers.LlavaForConditionalGeneration(config)
    model.save_pretrained(folder / "saved")
    for name, prefix in (("memory", ""), ("compiled", "_orig_mod.")):
        (folder / name).mkdir()
        shutil.copy(folder / "saved/config.json", folder / name)
        tensors = {prefix + k: v.clone() for k, v in model.state_dict().items()}
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
    transformers.LlamaForCausalLM(text).save_pretrained(folder / "language")
    return folder, model


def found(ours, theirs):
    with open_checkpoint(ours) as a, open_checkpoint(theirs) as b:
        return match(of_source(a), of_source(b))


@pytest.mark.parametrize("name", ["memory", "compiled"])
def test_names_on_disk_and_in_memory_are_matched_as_transformers_does(llava, name):
    folder, model = llava
    matched = found(folder / name, folder / "saved")
    assert (matched.only_ours, matched.only_theirs) == ((), ())
    assert len(matched.renamed) == len(model.state_dict())
    from safetensors.torch import load_file

    ours, theirs = (
        load_file(folder / name / "model.safetensors"),
        load_file(folder / "saved/model.safetensors"),
    )
    assert all(ours[a].equal(theirs[b]) for a, b in matched.names.items())


@pytest.mark.parametrize("name", ["saved", "memory"])
def test_a_language_model_in_a_model_that_sees(llava, name):
    folder, _ = llava
    matched = found(folder / name, folder / "language")
    assert matched.only_theirs == ()
    assert all("vision" in k or "multi_modal" in k for k in matched.only_ours)
    assert matched.only_ours


def test_old_names_of_layer_norms(tmp_path):
    from safetensors.torch import load_file, save_file

    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    tensors = load_file(tmp_path / "new/model.safetensors")
    renamed = {
        "bert."
        + k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in tensors.items()
    }
    save_file(renamed, tmp_path / "old/model.safetensors", {"format": "pt"})
    matched = found(tmp_path / "old", tmp_path / "new")
    assert matched.names == dict(zip(renamed, tensors, strict=True))


def test_a_config_that_transformers_does_not_know_leaves_names_as_they_are(llava, tmp_path):
    folder, _ = llava
    shutil.copytree(folder / "memory", tmp_path / "memory")
    (tmp_path / "memory/config.json").write_text('{"model_type": "nobody-knows"}')
    shutil.copytree(folder / "saved", tmp_path / "saved")
    (tmp_path / "saved/config.json").write_text("not JSON")
    with open_checkpoint(tmp_path / "memory") as a, open_checkpoint(tmp_path / "saved") as b:
        assert match(of_source(a), of_source(b)) == correspond(of_source(a).tensors, of_source(b).tensors)


def test_a_manifest_under_our_names():
    entries = {k: TensorEntry(f"{i:064x}", "F32", (i + 1,)) for i, k in enumerate("abc")}
    theirs = Manifest((), {**entries, "extra.safetensors::x": entries["a"]})
    same = correspond({"a": entries["a"]}, entries)
    assert respelled(theirs, same) is theirs
    prefixed = correspond({f"module.{k}": t for k, t in entries.items() if k != "c"}, entries)
    assert respelled(theirs, prefixed).tensors == {
        "module.a": entries["a"],
        "module.b": entries["b"],
        "c": entries["c"],
        "extra.safetensors::x": entries["a"],
    }

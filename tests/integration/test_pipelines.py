"""Weights in folders take part: pipelines of diffusers, dense layers of sentence encoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoints import weights

from deltavcs.errors import InvalidInputError
from deltavcs.merging.settings import MergeMethod
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.diff import diff
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, init_repository
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


def nudged(model: Any, seed: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.01)
    return model


def build_unet(seed: int) -> Any:
    import diffusers
    import torch

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=8, attention_head_dim=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), norm_num_groups=4,
    )  # fmt: skip
    return nudged(unet, seed)


def build_bert(seed: int) -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    return nudged(BertModel(config), seed)


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Repository:
    """Pipelines `v1`, its fine-tune `chat`, and `v2` whose UNet is in shards; `bare` has no text encoder."""
    root = tmp_path_factory.mktemp("pipelines")
    found = init_repository(root, sync=False)
    parts = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    for name, seed in (("v1", 1), ("chat", 2), ("v2", 3), ("bare", 4)):
        shards = {"max_shard_size": "40KB"} if name == "v2" else {}
        build_unet(seed).save_pretrained(root / name / "unet", **shards)
        (root / name / "model_index.json").write_text(json.dumps(parts))
        if name != "bare":
            build_bert(seed).save_pretrained(root / name / "text_encoder")
    for name in ("v1", "v2"):
        import_base(found, str(root / name))
    for name in ("chat", "bare"):
        commit(found, str(root / name), base="v1")
    return found


def component(folder: Path, part: str) -> dict[str, Any]:
    return {k: t for f in sorted((folder / part).glob("*.safetensors")) for k, t in load_file(f).items()}


def sources(repo: Repository, part: str) -> dict[str, dict[str, Any]]:
    return {n: component(repo.path.parent / n, part) for n in ("v1", "chat", "v2")}


def check(out: Path, repo: Repository, expected) -> None:
    import torch

    for part in ("unet", "text_encoder"):
        of = sources(repo, part)
        found = component(out, part)
        assert found.keys() == of["v1"].keys()
        for key, tensor in found.items():
            exact = expected(*(of[n][key].double() for n in ("v1", "chat", "v2")))
            assert torch.equal(tensor, exact.float()), (part, key)


def test_a_pipeline_is_transferred_component_by_component(repo, tmp_path) -> None:
    import diffusers

    (done,) = transfer(repo, "chat", "v2")
    assert len(list((repo.path.parent / "v2" / "unet").glob("*.safetensors"))) > 1
    assert done.compatibility.missing == done.compatibility.extra == done.compatibility.apart == ()
    assert done.compatibility.renamed == ()
    checkout_files(repo, "v2+chat", tmp_path / "out")
    check(tmp_path / "out", repo, lambda v1, chat, v2: v2 + (chat - v1))
    loaded = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert loaded.state_dict().keys() == component(tmp_path / "out", "unet").keys()


def test_an_expression_over_pipelines(repo, tmp_path) -> None:
    checkout_files(repo, "0.5 * v1 + 0.25 * chat + 0.25 * v2", tmp_path / "out")
    check(tmp_path / "out", repo, lambda v1, chat, v2: 0.5 * v1 + 0.25 * chat + 0.25 * v2)


@pytest.mark.parametrize("method", ["average", "task_arithmetic"])
def test_a_merge_of_pipelines(repo, tmp_path, method) -> None:
    how = MergeMethod(method, base="v1") if method == "task_arithmetic" else MergeMethod(method)
    done = merge(repo, ["chat", "v2"], how, draft=Draft(f"m-{method}"))
    assert done.apart == ()
    checkout_files(repo, f"m-{method}", tmp_path / "out")
    if method == "average":
        check(tmp_path / "out", repo, lambda v1, chat, v2: (chat + v2) / 2)
    else:
        check(tmp_path / "out", repo, lambda v1, chat, v2: v1 + ((chat - v1) + (v2 - v1)))


def test_a_component_that_one_lacks_is_kept_and_named(repo, tmp_path) -> None:
    named = ("text_encoder/model (kept as it is: not in all of them)",)
    (done,) = transfer(repo, "bare", "v2", draft=Draft("t"))
    assert done.compatibility.apart == named
    assert done.compatibility.missing == ()
    assert merge(repo, ["chat", "bare"], draft=Draft("m-bare")).apart == named
    checkout_files(repo, "m-bare", tmp_path / "out")
    of = component(repo.path.parent / "chat", "text_encoder")
    found = component(tmp_path / "out", "text_encoder")
    assert all((found[k] == of[k]).all() for k in of)


def test_the_dense_layer_of_a_sentence_encoder(tmp_path) -> None:
    import torch

    found = init_repository(tmp_path, sync=False)
    dense = {}
    for i, name in enumerate(("v1", "chat", "v2")):
        build_bert(i).save_pretrained(tmp_path / name)
        (tmp_path / name / "2_Dense").mkdir()
        dense[name] = {"linear.weight": torch.randn(8, 8, generator=torch.Generator().manual_seed(i))}
        save_file(dense[name], tmp_path / name / "2_Dense" / "model.safetensors")
    (tmp_path / "v2" / "3_Dense").mkdir()
    (tmp_path / "v2" / "3_Dense" / "pytorch_model.bin").write_bytes(b"of its own")
    for name in ("v1", "v2"):
        import_base(found, str(tmp_path / name))
    commit(found, str(tmp_path / "chat"), base="v1")
    (done,) = transfer(found, "chat", "v2")
    assert done.compatibility.apart == ("3_Dense/pytorch_model.bin (kept as it is: not safetensors)",)
    checkout_files(found, "v2+chat", tmp_path / "out")
    a, b, c = (dense[n]["linear.weight"].double() for n in ("v2", "chat", "v1"))
    got = load_file(tmp_path / "out" / "2_Dense" / "model.safetensors")["linear.weight"]
    assert torch.equal(got, (a + (b - c)).float())


def test_a_diff_of_pipelines_does_not_depend_on_shards(repo) -> None:
    found = diff(repo, "v1", "v2")
    assert found.only_in_a == found.only_in_b == ()
    assert found.n_common == sum(len(sources(repo, part)["v1"]) for part in ("unet", "text_encoder"))
    assert 0 < found.relative_l2 < 1


def test_a_converted_pipeline_loads_in_its_new_dtype(repo, tmp_path) -> None:
    import torch
    from transformers import BertModel

    checkout_files(repo, "v2", tmp_path / "out", dtype="bfloat16")
    model = BertModel.from_pretrained(tmp_path / "out" / "text_encoder", dtype="auto")
    assert model.dtype is torch.bfloat16
    index = json.loads(next((tmp_path / "out" / "unet").glob("*.index.json")).read_text())
    held = sum(t.numel() * 2 for t in component(tmp_path / "out", "unet").values())
    assert index["metadata"]["total_size"] == held


def test_the_configurations_of_a_finetunes_components_on_request(repo, tmp_path) -> None:
    sizes = repo.path.parent / "sizes"
    shutil.copytree(repo.path.parent / "chat", sizes)
    path = sizes / "text_encoder" / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"layer_norm_eps": 1e-3}))
    commit(repo, str(sizes), base="v1")
    transfer(repo, "sizes", "v2", draft=Draft("eps"), carrying=Carrying(config="finetune"))
    checkout_files(repo, "eps", tmp_path / "out")
    made = json.loads((tmp_path / "out" / "text_encoder" / "config.json").read_text())
    assert made["layer_norm_eps"] == 1e-3
    path.write_text(json.dumps(settings | {"hidden_size": 16}))
    commit(repo, str(sizes), base="v1")
    with pytest.raises(InvalidInputError, match=r"text_encoder/config\.json .* hidden_size is 16, and 8"):
        transfer(repo, "sizes", "v2", draft=Draft("size"), carrying=Carrying(config="finetune"))


def test_a_fine_tune_whose_model_lies_elsewhere_is_refused(tmp_path) -> None:
    """A sentence encoder in `0_Transformer/`, a target with it at the top: only the dense layer meets."""
    found = init_repository(tmp_path / "repo", sync=False)
    for name, folder, seed in (("old", "0_Transformer", 0), ("tuned", "0_Transformer", 1), ("new", "", 2)):
        write_checkpoint(tmp_path / name / folder, weights(seed))
        dense = {"linear.weight": raw_tensor("F32", (4, 4), seed=seed + 5)}
        write_checkpoint(tmp_path / name / "2_Dense", dense)
    for name in ("old", "new"):
        import_base(found, str(tmp_path / name), draft=Draft(name))
    commit(found, str(tmp_path / "tuned"), base="old", draft=Draft("tuned"))
    with pytest.raises(InvalidInputError, match="of the model itself no tensor meets another"):
        transfer(found, "tuned", "new")

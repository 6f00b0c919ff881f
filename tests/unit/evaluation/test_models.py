"""Models of stored checkpoints: what they need, and what does not fit them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from safetensors.torch import load_file, save_file

from deltavcs.advice import Advice
from deltavcs.checkpoint.view import View, view_of
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.evaluation.models import build_model
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft

Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture
def load(repo: Repository, tmp_path: Path, sign: Callable[[], Signature]) -> Callable[[Change], Any]:
    """Builds a tiny Llama after a change of its configuration and tensors."""

    def build(change: Change, **options: Any) -> Any:
        folder = tmp_path / "m"
        ARCHITECTURES["llama"]().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_bytes())
        tensors = load_file(folder / "model.safetensors")
        change(config, tensors)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        import_base(repo, str(folder), draft=Draft("m", signature=sign()))
        view = view_of(repo.manifest(repo.resolve("m")))
        return build_model(repo.objects, view, **options, resources=Resources(1))

    return build


def test_without_a_configuration(repo: Repository) -> None:
    with pytest.raises(InvalidInputError) as caught:
        build_model(repo.objects, View((), {}), resources=Resources(1))
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BAD_CHECKPOINT, Advice.TENSORS_ALONE)


def test_a_model_without_transformers(monkeypatch: pytest.MonkeyPatch, repo: Repository) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError) as caught:
        build_model(repo.objects, View((), {}), resources=Resources(1))
    assert caught.value.facts == {"package": "transformers"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c, t: t.pop("model.norm.weight"), "the checkpoint lacks model.norm.weight"),
        (
            lambda c, t: c.update(num_hidden_layers=3),
            r"lacks model.layers.2.input_layernorm.weight, .* and 4 more",
        ),
        (
            lambda c, t: t.update({"lm_head.weight": t["lm_head.weight"][:60].clone()}),
            r"lm_head.weight has shape \[60, 32\], and config.json asks for \[64, 32\]",
        ),
        (lambda c, t: t.update(odd=torch.zeros(1)), "the model of config.json has no odd"),
        (lambda c, t: c.update(hidden_size=1 << 40), "has shape"),
        (
            lambda c, t: c.update(quantization_config={"quant_method": "gptq", "bits": 4}),
            "quantised \\(gptq\\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_never_left_at_random(
    load: Callable[..., Any], change: Change, reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason) as caught:
        load(change, causal=True, swapped=True)
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT


def test_what_a_family_once_saved_is_no_hindrance(load: Callable[..., Any]) -> None:
    load(lambda c, t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}))


def test_another_dtype_leaves_the_buffers_alone(load: Callable[..., Any]) -> None:
    model = load(lambda c, t: None, dtype="BF16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers()} == {torch.float32}

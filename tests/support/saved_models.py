"""Models saved as other tools or other versions save them, and what transformers reads of a folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers
from architectures import nudged
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

Tensors = dict[str, torch.Tensor]


def save_model(
    folder: Path, model: PreTrainedModel, edit: Callable[[Tensors], Mapping[str, torch.Tensor]] | None = None
) -> Path:
    """Save a model, its tensors changed on disk by `edit`."""
    model.save_pretrained(folder)
    if edit is not None:
        path = folder / "model.safetensors"
        save_file(dict(edit(load_file(path))), path, {"format": "pt"})
    return folder


def loaded(folder: Path) -> tuple[PreTrainedModel, Tensors]:
    """The model that transformers loads of a folder, all of it, and its tensors in float64."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, found = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(found.values()), found
    return model, {k: v.double() for k, v in model.state_dict().items()}


def untied(model: PreTrainedModel, *, seed: int = 9) -> PreTrainedModel:
    """A model of the same weights whose head is one of its own, trained a little."""
    config = copy.deepcopy(model.config)
    for section in (config, config.get_text_config()):
        section.tie_word_embeddings = False
    own = type(model)(config)
    own.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    return nudged(own, seed=seed)

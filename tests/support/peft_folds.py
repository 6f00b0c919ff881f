"""Adapters that PEFT makes, folded by this library and by PEFT itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import Committed, commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository, init_repository
from deltavcs.steps.checkouts import CheckedOut
from deltavcs.steps.recording import Draft


@dataclass(frozen=True)
class Trained:
    """A base and an adapter on disk, and what PEFT makes of both.

    Attributes:
        model: the PEFT model as it was trained.
        forward: its output for `TOKENS`; None if it takes none.
    """

    base: Path
    lora: Path
    model: Any
    forward: Any = None

    def merged(self) -> Any:
        """The model that `merge_and_unload` gives. Destroys `model`."""
        return self.model.merge_and_unload()


def lora(**settings: Any) -> Any:
    """A configuration of LoRA with rank 4 and alpha 8."""
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "lora_alpha": 8, **settings})


def train(
    folder: Path, model: Any, config: Any, *, model_class: Any = None, forward: bool = False, **loading: Any
) -> Trained:
    """Save a base, load it as `model_class`, and save an adapter whose every tensor was moved.

    Args:
        loading: for `from_pretrained`, such as `num_labels`.
    """
    model.save_pretrained(folder / "base")
    loaded = (model_class or type(model)).from_pretrained(folder / "base", dtype=model.dtype, **loading)
    adapted = moved(loaded, config)
    adapted.save_pretrained(folder / "lora")
    return Trained(folder / "base", folder / "lora", adapted, logits(adapted) if forward else None)


def moved(model: Any, config: Any) -> Any:
    """A PEFT model, every trainable tensor of it away from where it began."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(1)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapted.eval()


def logits(model: Any) -> Any:
    """What a language model makes of a few tokens."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(1, 12)[None]).logits


def stored(folder: Path, trained: Trained, *, base: str | None = None) -> tuple[Repository, Committed]:
    """A new repository with the base and the adapter."""
    repo = init_repository(folder / "repo", sync=False)
    import_base(repo, str(trained.base), draft=Draft("base"))
    return repo, commit(repo, str(trained.lora), base=base, draft=Draft("lora"))


def fold(folder: Path, trained: Trained) -> CheckedOut:
    """Commit both and check the folded checkpoint out to `folder / "out"`."""
    repo, _ = stored(folder, trained)
    return checkout_files(repo, "lora", folder / "out", merge_adapter=True)


def difference(out: Path, wanted: Any) -> float:
    """The largest difference between the parameters of a checkpoint and of a model, loaded as its class.

    Nothing of the checkpoint may be left out, and nothing of the model left at random.
    """
    loaded, told = type(wanted).from_pretrained(out, output_loading_info=True, dtype=wanted.dtype)
    assert not any(told[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    ours, theirs = loaded.state_dict(), wanted.state_dict()
    assert ours.keys() == theirs.keys()
    return max((ours[k].double() - theirs[k].double()).abs().max().item() for k in theirs)


def edit_tensors(adapter: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write other tensors into an adapter."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def rename_tensors(adapter: Path, change: Callable[[str], str]) -> None:
    """Give the tensors of an adapter other names."""
    edit_tensors(adapter, lambda tensors: {change(k): v for k, v in tensors.items()})


def copy_of(trained: Trained, folder: Path) -> Trained:
    """The same base, and a copy of the adapter that may be changed."""
    target = Path(tempfile.mkdtemp(dir=folder)) / "lora"
    shutil.copytree(trained.lora, target)
    return Trained(trained.base, target, trained.model, trained.forward)

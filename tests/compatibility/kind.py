"""What a kind of checkpoint is: the files that people have of it, made small by the library that owns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 320


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint or adapter.

    Attributes:
        name: as the page shows it.
        make: writes `base`, `tuned` and `other` (two fine-tunes or adapters of it) and `new` (the base's next
            version) below a folder. What it gives back is called to get the model that PEFT makes of `tuned`
            by merging it into the base; None for whole checkpoints and where PEFT cannot merge.
        adapter: `tuned` is an adapter.
        pickled: weights are pickles, which are converted on request.
        asks: can be ranked: a causal language model.
        packed: quantised: no arithmetic on its numbers is right.
        dequantised: how the weights of a quantised folder are computed; sums and means are then of those.
        raw: transformers cannot load it, or not all of it: sums and means are held against its files.
        finetune_config: transfers take the fine-tune's config.json: its class is another than the base's.
    """

    name: str
    make: Callable[[Path], Callable[[], Any] | None]
    adapter: bool = False
    pickled: bool = False
    asks: bool = True
    packed: bool = False
    dequantised: Callable[[Path], dict[str, torch.Tensor]] | None = None
    raw: bool = False
    finetune_config: bool = False


def nudged(model: Any, seed: int, size: float = 0.01) -> Any:
    """The model with another small change of every parameter, as training makes it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            change = torch.randn(parameter.shape, generator=generator) * size
            parameter.add_(change.to(parameter.dtype))
    return model


def trained(peft_model: Any, seed: int) -> Any:
    """The PEFT model with a change of every parameter that is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in peft_model.parameters():
            if parameter.requires_grad:
                change = torch.randn(parameter.shape, generator=generator) * 0.05
                parameter.add_(change.to(parameter.dtype))
    return peft_model

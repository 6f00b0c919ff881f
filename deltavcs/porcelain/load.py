"""A transformers model straight from the repository, without a directory in between."""

from __future__ import annotations

from typing import Any

from deltavcs.checkpoint import layout
from deltavcs.checkpoint.device import checked_device
from deltavcs.checkpoint.materialize import load_state, torch_dtype
from deltavcs.evaluation.models import build_model, config_directory
from deltavcs.evaluation.quantised_models import loading_quantised
from deltavcs.repo import Repository
from deltavcs.skeleton.model_config import import_transformers
from deltavcs.steps.targets import parse_dtype, prepare_target


def load_model(
    repo: Repository,
    revision: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    merge_adapter: bool = False,
    dequantize: bool = False,
) -> Any:
    """Load a revision or an expression as the transformers model its config.json names.

    Args:
        revision: a revision or an expression.
        device: where the model goes, as torch spells it, such as `cpu` or `cuda:1`.
        dtype: of the parameters, such as `bfloat16`; None for the checkpoint's own.
        merge_adapter: the base with the adapter folded in: base + s·B·A.
        dequantize: the weights that a quantised checkpoint stands for; else transformers loads it with the
            quantiser that its config.json names.

    Returns:
        A `transformers.PreTrainedModel` in evaluation mode.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-checkpoint` if there is no config.json, or its tensors do not fit it;
            `bad-argument` if there is no such device here; `quantised` if its quantiser is not here.
        MissingDependencyError: torch or transformers is not installed.
    """
    device = checked_device(device)
    target = prepare_target(repo, revision, dtype=dtype, merge_adapter=merge_adapter, dequantize=dequantize)
    state = load_state(repo.objects, target.view, device="cpu", resources=repo.resources)
    quantised = loading_quantised(repo.objects, target.view, revision)
    with config_directory(repo.objects, target.view) as folder, quantised:
        model = build_model(folder, state)
    if dtype is not None:
        model = model.to(torch_dtype(parse_dtype(dtype)))
    return model.to(device)


def load_tokenizer(repo: Repository, revision: str) -> Any:
    """The tokenizer of a revision or an expression, as transformers loads it; None if it has none.

    Raises:
        NotFoundError: `unknown-revision`.
        MissingDependencyError: transformers is not installed.
    """
    target = prepare_target(repo, revision, dtype=None, merge_adapter=False)
    transformers = import_transformers()
    with config_directory(repo.objects, target.view) as folder:
        if not layout.holds_tokenizer(p.name for p in folder.iterdir()):
            return None
        return transformers.AutoTokenizer.from_pretrained(folder)

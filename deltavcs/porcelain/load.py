"""A transformers model straight from the repository, without a directory in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deltavcs.checkpoint.device import checked_device
from deltavcs.checkpoint.view import View, view_of
from deltavcs.evaluation.models import build_model
from deltavcs.evaluation.quantised_models import loading_quantised
from deltavcs.evaluation.tokenizers import load_tokenizer_of
from deltavcs.objects.model import Kind, Role
from deltavcs.repo import Repository
from deltavcs.steps.running import naming
from deltavcs.steps.targets import Target, parse_dtype, prepare_target


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

    Equal to `from_pretrained` of a checkout, to the bit. Weights that are missing, unknown or of another
    shape are refused before anything is allocated. Code that comes with a checkpoint is never run.

    Args:
        revision: a revision or an expression.
        device: where the model goes, as torch spells it, such as `cpu` or `cuda:1`.
        dtype: of the parameters, such as `bfloat16`; None for the checkpoint's own.
        merge_adapter: the base with the adapter folded in: base + s·B·A.
        dequantize: the weights that a quantised checkpoint stands for; else transformers loads it with the
            quantiser that its config.json names.

    Returns:
        A `transformers.PreTrainedModel` in evaluation mode; for an adapter that is not folded in a
        `peft.PeftModel` of the base with the adapter.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-checkpoint` if there is no config.json, or its tensors do not fit it;
            `incompatible` if an adapter does not fit its base; `bad-argument` if there is no such device;
            `quantised` if its quantiser is not here.
        MissingDependencyError: torch or transformers is not installed, or peft for an adapter.
    """
    device = checked_device(device)
    target = prepare_target(repo, revision, dtype=None, merge_adapter=merge_adapter, dequantize=dequantize)
    wanted = parse_dtype(dtype) if dtype is not None else None
    below = None if merge_adapter else _below(repo, target)
    with naming(revision), loading_quantised(repo.objects, below or target.view, revision):
        if below is None:
            view = _rounded_once(target.view, wanted) if wanted is not None else target.view
            model = build_model(repo.objects, view, dtype=wanted, resources=repo.resources)
        else:
            from deltavcs.evaluation.adapter_model import load_adapted

            model = load_adapted(repo.objects, below, target.view, dtype=wanted, resources=repo.resources)
    return model.to(device)


def _below(repo: Repository, target: Target) -> View | None:
    """The base of an adapter commit; None for anything else."""
    value = repo.commit(target.commit) if target.commit is not None else None
    base = value.parent_as(Role.BASE) if value is not None and value.kind is Kind.ADAPTER else None
    return view_of(repo.manifest(base)) if base is not None else None


def _rounded_once(view: View, dtype: str) -> View:
    """The view with what is computed in float64 going straight to `dtype`; the model casts the rest."""
    tensors = {k: c if c.blob is not None else replace(c, dtype=dtype) for k, c in view.tensors.items()}
    return replace(view, tensors=tensors)


def load_tokenizer(repo: Repository, revision: str) -> Any:
    """The tokenizer of a revision or an expression, as transformers loads it; None if it has none.

    That of an adapter is its own, else its base's. Code that comes with a tokenizer is never run.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-checkpoint` for a tokenizer that needs code of its own.
        MissingDependencyError: transformers is not installed.
    """
    target = prepare_target(repo, revision, dtype=None, merge_adapter=False)
    below = _below(repo, target)
    for view in (target.view, *([below] if below is not None else [])):
        with naming(revision):
            found = load_tokenizer_of(repo.objects, view)
        if found is not None:
            return found
    return None

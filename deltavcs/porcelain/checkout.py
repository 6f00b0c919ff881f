"""Any commit or expression, bit for bit, as a directory or as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deltavcs.errors import DeltaVCSError
from deltavcs.repo import Repository
from deltavcs.steps.checkouts import CheckedOut, check_place, write_target
from deltavcs.steps.targets import located, prepare_target


def checkout_files(
    repo: Repository,
    revision: str,
    output: str | Path,
    *,
    dtype: str | None = None,
    merge_adapter: bool = False,
    force: bool = False,
    dequantize: bool = False,
) -> CheckedOut:
    """Write a checkpoint to a directory; every file is byte for byte what was committed.

    Args:
        revision: a revision or an expression.
        output: must not exist or be empty, unless `force`.
        dtype: convert floating-point tensors, such as to `bfloat16`, with one rounding; None leaves them.
        merge_adapter: write base + s·B·A instead of the adapter.
        dequantize: the weights that a quantised checkpoint stands for, in the dtype that its config.json
            computes in, and files that no longer speak of a quantisation; for 8-bit floats with scales.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-expression`; `incompatible` for what cannot be added; `quantised` for stored
            numbers that are no weights.
        AlreadyExistsError: `output-not-empty`.
        IntegrityError: stored data is damaged; names the commit, and nothing is written.
    """
    output = Path(output)
    check_place(repo, output, force=force)
    target = prepare_target(repo, revision, dtype=dtype, merge_adapter=merge_adapter, dequantize=dequantize)
    return write_target(repo, target, output, force=force)


def checkout(
    repo: Repository,
    revision: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    merge_adapter: bool = False,
    dequantize: bool = False,
) -> dict[str, Any]:
    """Load a checkpoint's tensors on `device`, bit for bit.

    Args:
        revision: a revision or an expression.
        device: as torch spells it, such as `cpu` or `cuda:1`.
        dtype, merge_adapter, dequantize: as for `checkout_files`.

    Returns:
        `dict[str, torch.Tensor]` by the tensors' own names, with the shapes and dtypes that were committed.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-argument` for a device that this machine does not have.
        MissingDependencyError: torch is not installed.
        IntegrityError: stored data is damaged; names the commit and the tensor.
    """
    from deltavcs.checkpoint.materialize import load_state

    target = prepare_target(repo, revision, dtype=dtype, merge_adapter=merge_adapter, dequantize=dequantize)
    try:
        return load_state(repo.objects, target.view, device=device, resources=repo.resources)
    except DeltaVCSError as exc:
        raise located(repo, target, exc) from exc

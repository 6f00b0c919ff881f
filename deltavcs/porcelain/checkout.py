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
    update: bool = False,
) -> CheckedOut:
    """Write a checkpoint to a directory; every file is byte for byte what was committed.

    Over an earlier checkout, what that one wrote and this one does not have is removed, and files that have
    their content already are not touched. Other files stay.

    Args:
        revision: a revision or an expression.
        output: must not exist or be empty, unless `force` or `update`.
        dtype: convert floating-point tensors, such as to `bfloat16`, with one rounding; None leaves them.
        merge_adapter: write base + s·B·A instead of the adapter.
        force: replace files that are in the way, but no weights that are not as a checkout wrote them.
        update: change an earlier checkout into this one; no file that was changed since is replaced.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-expression`; `incompatible` for what cannot be added; `bad-argument` for an
            update of what is no checkout.
        AlreadyExistsError: `output-not-empty`, naming files that would be lost.
        ConflictError: `locked` if another checkout into the directory is under way.
        IntegrityError: stored data is damaged; names the commit, and nothing is written.
    """
    output = Path(output)
    check_place(repo, output, force=force, update=update)
    target = prepare_target(repo, revision, dtype=dtype, merge_adapter=merge_adapter)
    return write_target(repo, target, output, force=force, update=update)


def checkout(
    repo: Repository,
    revision: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    merge_adapter: bool = False,
) -> dict[str, Any]:
    """Load a checkpoint's tensors on `device`, bit for bit.

    Args:
        revision: a revision or an expression.
        device: as torch spells it, such as `cpu` or `cuda:1`.
        dtype, merge_adapter: as for `checkout_files`.

    Returns:
        `dict[str, torch.Tensor]` by the tensors' own names, with the shapes and dtypes that were committed.

    Raises:
        NotFoundError: `unknown-revision`.
        InvalidInputError: `bad-argument` for a device that this machine does not have.
        MissingDependencyError: torch is not installed.
        IntegrityError: stored data is damaged; names the commit and the tensor.
    """
    from deltavcs.checkpoint.materialize import load_state

    target = prepare_target(repo, revision, dtype=dtype, merge_adapter=merge_adapter)
    try:
        return load_state(repo.objects, target.view, device=device, resources=repo.resources)
    except DeltaVCSError as exc:
        raise located(repo, target, exc) from exc

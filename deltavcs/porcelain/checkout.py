"""`dvx checkout`: any commit or expression, bit for bit, as a directory or as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deltavcs.checkpoint.layout import MARKER
from deltavcs.checkpoint.marker import Marker, encode_marker
from deltavcs.checkpoint.output_folder import check_output
from deltavcs.checkpoint.view import View, cast, replace_files
from deltavcs.checkpoint.writer import write_view
from deltavcs.errors import DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.repo import Repository
from deltavcs.resources import SPAN_BYTES, Resources
from deltavcs.steps.targets import Target, target_of

DTYPES = {
    "float64": "F64", "f64": "F64", "float32": "F32", "fp32": "F32", "f32": "F32",
    "float16": "F16", "fp16": "F16", "f16": "F16", "bfloat16": "BF16", "bf16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "fp8": "F8_E4M3", "f8_e4m3": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "f8_e5m2": "F8_E5M2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """A checkpoint that was written.

    Attributes:
        commit: None for an expression.
    """

    path: Path
    commit: CommitId | None
    recipe: str
    n_files: int
    n_tensors: int
    n_bytes: int


def checkout_files(
    repo: Repository,
    revision: str,
    output: Path,
    *,
    dtype: str | None = None,
    merge_adapter: bool = False,
    force: bool = False,
    resources: Resources | None = None,
) -> CheckedOut:
    """Write a checkpoint to a directory; every file is byte for byte what was committed.

    Args:
        revision: a revision or an expression.
        output: must not exist or be empty, unless `force`.
        dtype: convert floating-point tensors, one rounding.
        merge_adapter: write base + s·B·A instead of the adapter.

    Raises:
        AlreadyExistsError: `output-not-empty`.
        IntegrityError: stored data is damaged; names the commit, and nothing is written.
    """
    resources = resources or Resources()
    check_output(output, force=force)
    if output.resolve().is_relative_to(repo.path.resolve()):
        raise InvalidInputError(
            f"{output} is inside the repository's own directory",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Name a directory outside of it.",
        )
    target = prepare(repo, revision, dtype=dtype, merge_adapter=merge_adapter)
    marker = target.commit or target.operands[0]
    extra = {MARKER: encode_marker(Marker(marker, revision))}
    try:
        n_bytes = write_view(repo.objects, target.view, output, resources=resources, force=force, extra=extra)
    except DeltaVCSError as exc:
        raise _located(repo, target, exc) from exc
    return CheckedOut(
        output, target.commit, target.recipe, len(target.view.files), len(target.view.tensors), n_bytes
    )


def checkout(
    repo: Repository,
    revision: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    merge_adapter: bool = False,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Load a checkpoint's tensors: `dict[str, torch.Tensor]` on `device`, bit for bit.

    Raises:
        MissingDependencyError: torch is not installed.
        IntegrityError: stored data is damaged; names the commit and the tensor.
    """
    from deltavcs.checkpoint.materialize import load_state

    target = prepare(repo, revision, dtype=dtype, merge_adapter=merge_adapter)
    try:
        return load_state(repo.objects, target.view, device=device, resources=resources or Resources())
    except DeltaVCSError as exc:
        raise _located(repo, target, exc) from exc


def prepare(repo: Repository, revision: str, *, dtype: str | None, merge_adapter: bool) -> Target:
    """Resolve a revision or an expression, fold its adapter in and convert it, as asked."""
    target = target_of(repo, revision)
    if merge_adapter:
        target = replace(target, view=_merged(repo, target), commit=None)
    if dtype is not None:
        from deltavcs.checkpoint.materialize import torch_name
        from deltavcs.checkpoint.patching import retyped_files

        view = cast(repo.objects, target.view, parse_dtype(dtype))
        files = retyped_files(repo.objects, view, torch_name(parse_dtype(dtype)))
        target = replace(target, view=replace_files(view, files))
    return target


def parse_dtype(text: str) -> str:
    """The safetensors name of a dtype that a user wrote.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    found = DTYPES.get(text.removeprefix("torch.").lower())
    if found is None:
        raise InvalidInputError(
            f"unknown dtype {text!r}", kind=ErrorKind.BAD_ARGUMENT, hint="One of: " + ", ".join(DTYPES)
        )
    return found


def _located(repo: Repository, target: Target, exc: DeltaVCSError) -> DeltaVCSError:
    """Name commit and tensor in an error about a blob."""
    if exc.kind not in (
        ErrorKind.HASH_MISMATCH, ErrorKind.CORRUPT, ErrorKind.MISSING_OBJECT, ErrorKind.MISSING_BASE,
        ErrorKind.TRUNCATED, ErrorKind.DELTA_CYCLE,
    ):  # fmt: skip
        return exc
    where = f"commit {target.commit[:12]}" if target.commit else target.text
    hurt = damaged_tensor(repo, target.view)
    return exc.within(f"{where}, {hurt}" if hurt else where)


def damaged_tensor(repo: Repository, view: View) -> str | None:
    """The first tensor or file of a view that cannot be read. Reads everything; only after an error."""
    blobs = repo.objects.blobs
    for file in view.files:
        if file.blob is not None and file.keys is None:
            blob = file.blob
            if _unreadable(lambda at, out, blob=blob: blobs.read_into(blob, at, out), file.size):  # type: ignore[misc]
                return file.path
    for key, content in view.tensors.items():
        if _unreadable(lambda at, out, c=content: c.read_into(blobs, at, out), content.size):  # type: ignore[misc]
            return key
    return None


def _unreadable(read: Callable[[int, memoryview], None], size: int) -> bool:
    try:
        for at in range(0, size, SPAN_BYTES):
            read(at, memoryview(bytearray(min(SPAN_BYTES, size - at))))
    except DeltaVCSError:
        return True
    return False


def _merged(repo: Repository, target: Target) -> View:
    """The base of an adapter commit with the adapter folded in."""
    from deltavcs.checkpoint.folding import fold_adapter

    value = repo.commit(target.commit) if target.commit else None
    base = value.parent_as(Role.BASE) if value is not None else None
    if value is None or value.kind is not Kind.ADAPTER or base is None:
        raise InvalidInputError(
            f"{target.text} is not an adapter",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Leave --merge-adapter out; its weights are whole.",
        )
    return fold_adapter(repo.objects, repo.objects.get_manifest(value.manifest), repo.manifest(base))

"""Adapters that are to be committed: are they whole, do they fit their base, what are they?"""

from __future__ import annotations

from deltavcs.adapters.adapter_check import check_complete, check_fits_base, names_modules, nonfinite_tensors
from deltavcs.adapters.adapter_config import AdapterConfig, parse_adapter_config
from deltavcs.adapters.base_weights import BaseWeights
from deltavcs.adapters.foreign_loras import UNMERGED, foreign_lora, own_names
from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from deltavcs.checkpoint.quantised import quantisations_of
from deltavcs.checkpoint.source import SourceCheckpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import TensorEntry
from deltavcs.oid import BlobId, CommitId
from deltavcs.repo import Repository


def check_adapter_fits(repo: Repository, checkpoint: SourceCheckpoint, base: CommitId) -> tuple[str, ...]:
    """Refuse an adapter that is not whole, or not of a base.

    Returns:
        Why it cannot be folded, if it cannot; clauses.

    Raises:
        InvalidInputError: `bad-checkpoint` if tensors or elements are missing; `incompatible` with the module
            that does not fit.
    """
    config, tensors = _config(checkpoint), _entries(checkpoint)
    check_complete(tensors)
    manifest = repo.manifest(base)
    quantised = bool(quantisations_of(repo.objects, manifest))
    return check_fits_base(config, tensors, BaseWeights(repo.objects, manifest), quantised=quantised)


def check_whole(checkpoint: SourceCheckpoint) -> None:
    """Refuse an adapter without tensors or elements.

    Raises:
        InvalidInputError: `bad-checkpoint`.
    """
    check_complete(_entries(checkpoint))


def kind_of(checkpoint: SourceCheckpoint) -> str:
    """The type that an adapter's configuration says, as PEFT spells it."""
    return _config(checkpoint).peft_type


def read_adapter(
    repo: Repository, checkpoint: SourceCheckpoint, base: CommitId, made: CommitId
) -> tuple[str, tuple[str, ...]]:
    """The kind of an adapter that was committed, and what there is to say of it; nothing of others."""
    if not checkpoint.is_adapter:
        return "", ()
    why = check_adapter_fits(repo, checkpoint, base)
    notes = [f"it is stored, and cannot be folded: {w}" for w in why]
    if broken := nonfinite_tensors(repo.objects, repo.manifest(made)):
        notes.append(f"{len(broken)} of its tensors hold NaN or Inf, such as {broken[0]}")
    return _config(checkpoint).kind, tuple(notes)


def adapters_below(checkpoint: SourceCheckpoint) -> tuple[str, ...]:
    """Folders of a source that hold an adapter each, where the source itself holds none."""
    paths = {f.path for f in checkpoint.files}
    if ADAPTER_CONFIG in paths:
        return ()
    folders = [p.removesuffix("/" + ADAPTER_CONFIG) for p in paths if p.endswith("/" + ADAPTER_CONFIG)]
    return tuple(sorted(f for f in folders if f"{f}/{ADAPTER_WEIGHTS}" in paths))


def refuse_adapters_below(checkpoint: SourceCheckpoint) -> None:
    """Refuse a folder of several adapters: each is a commit.

    Raises:
        InvalidInputError: `bad-checkpoint`, naming them.
    """
    folders = adapters_below(checkpoint)
    if not folders or any("::" not in key for key in checkpoint.tensors):
        return
    what = "adapters" if len(folders) > 1 else "an adapter"
    raise InvalidInputError(
        f"{checkpoint.root} holds no weights of its own, but {what} in {', '.join(folders)}",
        kind=ErrorKind.BAD_CHECKPOINT,
        advice=Advice.COMMIT_FOLDER,
        facts={"folder": str(checkpoint.root / folders[0])},
    )


def _config(checkpoint: SourceCheckpoint) -> AdapterConfig:
    return parse_adapter_config(checkpoint.read_small(ADAPTER_CONFIG) or b"")


def _entries(checkpoint: SourceCheckpoint) -> dict[str, TensorEntry]:
    """Names and shapes of the adapter's own tensors; the blobs are not stored yet."""
    nothing = BlobId("0" * 64)
    own = {k: t for k, t in checkpoint.tensors.items() if "::" not in k}
    return {k: TensorEntry(nothing, t.dtype, t.shape) for k, t in own.items()}


def says_its_modules(checkpoint: SourceCheckpoint) -> bool:
    """False for an adapter whose tensors are not called after modules of its base, such as a prompt."""
    return names_modules(_config(checkpoint), _entries(checkpoint))


def foreign_lora_of(checkpoint: SourceCheckpoint) -> str | None:
    """What a source is that holds LoRA factors in another layout than PEFT's; None if it is none.

    A whole model with an adapter still in it is a checkpoint, and stored as one.
    """
    found = None if checkpoint.is_adapter else foreign_lora(own_names(checkpoint.tensors))
    return None if found == UNMERGED else found


def holds_adapter(checkpoint: SourceCheckpoint) -> bool:
    """True for an adapter in whatever layout."""
    return checkpoint.is_adapter or foreign_lora_of(checkpoint) is not None

"""From a checkpoint on disk to a manifest: which blobs to store, against which bases."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

from deltavcs.advice import Advice
from deltavcs.checkpoint.ingested import BlobTally, Ingested, counterpart
from deltavcs.checkpoint.layout import is_pickle
from deltavcs.checkpoint.quantised import recognise
from deltavcs.checkpoint.shards import listed
from deltavcs.checkpoint.source import LazyFile, SourceCheckpoint, SourceFile, SourceTensor
from deltavcs.errors import ErrorKind, IntegrityError, InvalidInputError, NotFoundError
from deltavcs.objects.domain import FILE_DOMAIN, tensor_domain
from deltavcs.objects.incoming import MemorySource, NewBlob
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry
from deltavcs.objects.transaction import Transaction
from deltavcs.resources import Resources


def ingest(
    transaction: Transaction,
    source: SourceCheckpoint,
    *,
    base: Manifest | None,
    previous: Manifest | None,
    resources: Resources,
) -> Ingested:
    """Store the blobs of a checkpoint.

    Args:
        transaction: where they go.
        source: an open checkpoint.
        base: tensors to code against and to measure the difference from.
        previous: an earlier checkpoint of the same run, to code against where that is clearly smaller.
        resources: threads, memory, progress.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is no tensor in it, nor anything that is kept as files.
        ConflictError: `source-changed` if a file was written to meanwhile.
    """
    check_weights(source)
    tally = BlobTally()
    done, total = 0, source.size
    with _changes_first(source):
        for added in transaction.add_blobs(_new_blobs(source, base, previous)):
            if isinstance(added.tag, SourceFile):
                tally.note_file(added.tag.path, added)
            else:
                key, tensor = added.tag
                tally.note_tensor(key, tensor.dtype, tensor.shape, added)
            done += added.raw_bytes
            resources.progress("storing", done, total)
    source.check_unchanged()
    entries = tuple(
        FileEntry(f.path, f.size, tally.files[f.path], f.keys, executable=f.executable) for f in source.files
    )
    packed = frozenset(k for one in recognise(source.tensors, source.read_small) for k in one.tensors)
    stats = {k: replace(s, l2=None) if k in packed else s for k, s in tally.stats.items()}
    return Ingested(Manifest(entries, tally.tensors), stats, total, packed=packed)


# As FSDP and DeepSpeed call what each process saves of a model.
_PART = re.compile(r"\.distcp\Z|(?:\A|/)(?:pytorch_model_fsdp_\d+/|(?:bf16_)?zero_pp_rank_|global_step\d+/)")


def check_weights(source: SourceCheckpoint) -> None:
    """Refuse a source without a tensor that is not to be kept as files either.

    Raises:
        InvalidInputError: `bad-checkpoint`, naming the folders that do hold weights.
    """
    if not source.tensors and not source.is_kept_as_files:
        raise _no_weights(source)


def _no_weights(source: SourceCheckpoint) -> InvalidInputError:
    inside = [x.path for x in source.findings.left_out if x.holds_weights and x.path.endswith("/")]
    if inside:
        inside.sort(key=lambda path: (len(path), path))  # checkpoint-900 comes before checkpoint-1000
        are = "which is" if len(inside) == 1 else "which are"
        return InvalidInputError(
            f"{source.root} holds no weights of its own; there are some in {listed(inside)}, {are} left out",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.NAME_FOLDER,
            facts={"path": str(source.root / inside[-1])},
        )
    everything = [*(f.path for f in source.files), *(x.path for x in source.findings.left_out)]
    if parts := [p for p in everything if _PART.search(p)]:
        return InvalidInputError(
            f"{source.root} holds no weights, but parts of some, from a distributed run ({listed(parts)})",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.GATHER_PARTS,
        )
    empty = [f.path for f in source.files if f.header is not None]
    what = f"no tensors: {empty[0]} is empty" if empty else "no safetensors weights"
    others = [x.path for x in source.findings.left_out if x.path.endswith("/") or is_pickle(x.path)]
    why = f" ({listed(others)} left out)" if others else ""
    return InvalidInputError(
        f"{source.root} holds {what}{why}", kind=ErrorKind.BAD_CHECKPOINT, advice=Advice.GIVE_WEIGHTS
    )


@contextlib.contextmanager
def _changes_first(source: SourceCheckpoint) -> Iterator[None]:
    """Say that a file changed, rather than what could not be read because of that."""
    try:
        yield
    except (IntegrityError, NotFoundError):
        source.check_unchanged()
        raise


def _new_blobs(
    source: SourceCheckpoint, base: Manifest | None, previous: Manifest | None
) -> Iterator[NewBlob]:
    olds = [m for m in (base, previous) if m is not None]
    for file in source.files:
        if file.header is None:
            yield NewBlob(file, FILE_DOMAIN, LazyFile(file.location, file.size))
            continue
        yield NewBlob(file, FILE_DOMAIN, MemorySource(file.header))
        for key in file.keys or ():
            tensor = source.tensors[key]
            yield NewBlob(
                (key, tensor),
                tensor_domain(tensor.dtype, tensor.shape),
                tensor.data,
                bases=tuple(m.tensors[key].blob for m in olds if _same_rows(m.tensors.get(key), tensor)),
                compare=counterpart(base, key, tensor.dtype, tensor.shape),
            )


def _same_rows(old: TensorEntry | None, new: SourceTensor) -> bool:
    return old is not None and old.dtype == new.dtype and old.shape[1:] == new.shape[1:]

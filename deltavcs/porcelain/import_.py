"""A base model, from a directory, a file or the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.intake import Intake
from deltavcs.checkpoint.source import Findings
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft, MadeAs, Recorded, recording
from deltavcs.steps.sources import default_name, open_source


@dataclass(frozen=True, slots=True)
class Imported:
    """A base that was imported.

    Attributes:
        findings: what there is to say of the source: what was left out, what does not agree.
        converted: weight files that were converted from pickle.
        n_own_tensors: tensors at the top level; 0 for a folder of several models or parts.
    """

    recorded: Recorded
    source: Mapping[str, Any]
    findings: Findings
    converted: tuple[str, ...]
    n_own_tensors: int

    __repr__ = brief


def import_base(
    repo: Repository,
    source: str,
    *,
    draft: Draft | None = None,
    intake: Intake | None = None,
    allow_pickle: bool = False,
) -> Imported:
    """Commit a checkpoint as a base.

    Args:
        source: a directory, a `.safetensors` file, or `hf://ORG/NAME[@REVISION]`.
        draft: branch, by default called as the source; message and metadata.
        intake: which files of the source are taken; by default all but what trainers and editors leave.
        allow_pickle: convert `.bin` and `.pt` weights through `torch.load(weights_only=True)`.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError, InvalidInputError: the files are malformed or incomplete, or hold no weights.
        ConflictError: a file changed while it was read, or someone else moved the branch.
    """
    draft = draft or Draft()
    if draft.signature is None:  # where it came from, whatever the message says
        draft = replace(draft, signature=repo.identity.sign(f"import {source}"))
    branch = check_name(default_name(source) if draft.name is None else draft.name)
    with open_source(repo, str(source), intake=intake, allow_pickle=allow_pickle) as opened:
        if opened.checkpoint.is_adapter:
            raise InvalidInputError(
                f"{source} is an adapter, not a base",
                kind=ErrorKind.BAD_CHECKPOINT,
                advice=Advice.COMMIT_ADAPTER,
            )
        with recording(repo, branch) as record:
            stored = ingest(
                record.transaction,
                opened.checkpoint,
                base=None,
                previous=record.previous,
                resources=repo.resources,
            )
            made = record.commit(stored, draft, MadeAs(Kind.BASE, source=opened.origin))
    n_own = len(stored.manifest.primary)
    return Imported(made, opened.origin, opened.checkpoint.findings, opened.converted, n_own)

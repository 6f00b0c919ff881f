"""One checkpoint out of several, committed with what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deltavcs.merging.settings import MergeMethod
from deltavcs.refs import check_name
from deltavcs.repo import Repository
from deltavcs.steps.arguments import several
from deltavcs.steps.merge_plans import plan_merge
from deltavcs.steps.merges import (
    Merged,
    describe_merge,
    merge_facts,
    merging,
    record_merge,
)
from deltavcs.steps.recording import Draft
from deltavcs.steps.running import Running


def merge(
    repo: Repository,
    revisions: Sequence[str],
    method: MergeMethod | None = None,
    *,
    draft: Draft,
    tasks: Sequence[str] = (),
    running: Running | None = None,
    dry_run: bool = False,
    dequantize: bool = False,
) -> Merged:
    """Merge checkpoints, or LoRA adapters, and commit the result.

    Configuration and tokenizer come from the first. Methods with a formula are stored as one, in kilobytes;
    Fisher and RegMean as deltas against the base.

    Args:
        revisions: what is merged, at least one; the order matters to methods with weights.
        method: how; the average by default.
        draft: the branch, which must be named; message and metadata.
        tasks: rows for `fisher` and `regmean`: one task for all models, one for each, or none for the task
            that each was committed with.
        running: how many of those rows, and where the models run.
        dry_run: plan only.
        dequantize: compute with the weights that quantised checkpoints stand for; the result has those.

    Raises:
        NotFoundError: an unknown revision or task.
        InvalidInputError: `incompatible` naming tensors; `base-unknown`; `bad-argument` for options;
            `quantised`.
    """
    check_name(draft.name or "")
    draft = draft.signed(repo, f"merge {', '.join(revisions)}")
    named = several(revisions, "revisions")
    plan = plan_merge(repo, named, method or MergeMethod(), dequantize=dequantize)
    with merging(repo, plan, tasks, running or Running()) as computed:
        recorded = None
        if not dry_run:
            facts = {**merge_facts(plan, computed), **draft.metadata}
            recorded = record_merge(repo, plan, computed, replace(draft, metadata=facts))
        return describe_merge(repo, plan, computed, recorded)

"""Scores in the repository: found by what was measured, written once (spec §3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from deltavcs.objects.canonical import encode_json
from deltavcs.objects.model import Score
from deltavcs.oid import CommitId, ManifestId, hash_bytes
from deltavcs.parallel import Resources
from deltavcs.rank.evaluate import EVALUATOR_VERSION, Evaluation
from deltavcs.rank.task import TaskRows
from deltavcs.refs import ABSENT
from deltavcs.refs.store import Signature
from deltavcs.repo import Repository

_PREFIX = "refs/scores/"
AUTO_DTYPE = "auto"


def score_key(manifest: ManifestId, fingerprint: str, samples: int, seed: int) -> str:
    """Key of a score: what was measured, on what, by which evaluator."""
    parts = [manifest, fingerprint, samples, seed, EVALUATOR_VERSION]
    return hash_bytes("score-key", encode_json(parts))


def find_score(
    repo: Repository, manifest: ManifestId, fingerprint: str, samples: int, seed: int, *, dtype: str | None
) -> Score | None:
    """The score of a checkpoint's content, whichever commit it was measured on; None if there is none.

    A score that was measured in another dtype than asked for does not count.
    """
    value = repo.refs.get(_PREFIX + score_key(manifest, fingerprint, samples, seed))
    if value is ABSENT:
        return None
    score = repo.objects.get_score(value)
    return score if score.metadata.get("dtype", AUTO_DTYPE) == (dtype or AUTO_DTYPE) else None


def make_score(
    commit: CommitId,
    manifest: ManifestId,
    rows: TaskRows,
    found: Evaluation,
    *,
    samples: int,
    seed: int,
    dtype: str | None,
    device: str,
) -> Score:
    """The score object of an evaluation. `accuracy` is the share of exact matches."""
    return Score(
        commit=commit,
        manifest=manifest,
        task=rows.task,
        task_fingerprint=rows.fingerprint,
        split=rows.split,
        samples=samples,
        seed=seed,
        evaluator=found.evaluator_version,
        loss=found.loss,
        accuracy=found.exact_match,
        metadata={
            "answer-tokens": str(found.n_answer_tokens),
            "device": device,
            "dtype": dtype or AUTO_DTYPE,
            "sample-loss": repr(found.sample_loss),
            "samples-found": str(found.n_samples),
            "token-accuracy": repr(found.token_accuracy),
            "truncated": str(found.n_truncated),
        },
    )


def save_score(repo: Repository, score: Score, *, signature: Signature) -> None:
    """Write a score and its ref; an equal one that is there stays. Losses must be finite.

    Raises:
        ConflictError: `ref-moved` if another process wrote a different one in this moment.
    """
    assert math.isfinite(score.loss)
    repo.check_writable()
    key = score_key(score.manifest, score.task_fingerprint, score.samples, score.seed)
    ref = _PREFIX + key
    current = repo.refs.get(ref)
    with repo.objects.transaction(Resources(), level=repo.config.zstd_level) as transaction:
        oid = transaction.put(score)
        transaction.finish()
        if current != oid:
            repo.refs.move(ref, expected=current, new=oid, signature=signature)


def all_scores(repo: Repository) -> Iterator[Score]:
    """Every score of the repository."""
    for oid in repo.refs.all("refs/scores").values():
        yield repo.objects.get_score(oid)

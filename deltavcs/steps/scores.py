"""Scores in the repository: found by what was measured, written once (spec §3.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltavcs.canonical import encode_json
from deltavcs.evaluation.evaluator import EVALUATOR_VERSION, Evaluation
from deltavcs.objects.model import AUTO_DTYPE, Score
from deltavcs.oid import CommitId, ManifestId, hash_bytes
from deltavcs.refs import ABSENT
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.tasks.reading import TaskRows

_PREFIX = "refs/scores/"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a score depends on, but for the evaluator's version.

    Attributes:
        manifest: what is measured.
        base: manifest below it that takes part, with weights or a tokenizer.
        samples: rows that are used.
        dtype: of the parameters; None for the checkpoint's own.
    """

    manifest: ManifestId
    base: ManifestId | None
    fingerprint: str
    samples: int
    seed: int
    dtype: str | None

    def key(self) -> str:
        """Key of the score (spec §3.4)."""
        dtype = self.dtype or AUTO_DTYPE
        parts = [
            self.manifest,
            self.base,
            self.fingerprint,
            self.samples,
            self.seed,
            dtype,
            EVALUATOR_VERSION,
        ]
        return hash_bytes("score-key", encode_json(parts))


def find_score(repo: Repository, conditions: Conditions) -> Score | None:
    """The score under these conditions, whichever commit it was measured on; None if there is none."""
    value = repo.refs.get(_PREFIX + conditions.key())
    return None if value is ABSENT else repo.objects.get_score(value)


def make_score(
    commit: CommitId, conditions: Conditions, rows: TaskRows, found: Evaluation, *, device: str
) -> Score:
    """The score object of an evaluation. `accuracy` is the share of exact matches."""
    return Score(
        commit=commit,
        manifest=conditions.manifest,
        base=conditions.base,
        dtype=conditions.dtype or AUTO_DTYPE,
        task=rows.task,
        task_fingerprint=conditions.fingerprint,
        split=rows.split,
        samples=conditions.samples,
        seed=conditions.seed,
        evaluator=found.evaluator_version,
        loss=found.loss,
        accuracy=found.exact_match,
        metadata={
            "answer-tokens": str(found.n_answer_tokens),
            "device": device,
            "sample-loss": repr(found.sample_loss),
            "token-accuracy": repr(found.token_accuracy),
            "truncated": str(found.n_truncated),
        },
    )


def save_score(repo: Repository, conditions: Conditions, score: Score, *, signature: Signature) -> None:
    """Write a score and its ref; an equal one that is there stays. Losses must be finite.

    Raises:
        ConflictError: `ref-moved` if another process wrote a different one in this moment.
    """
    assert math.isfinite(score.loss)
    repo.check_writable()
    ref = _PREFIX + conditions.key()
    current = repo.refs.get(ref)
    with repo.objects.transaction(repo.resources, level=repo.config.zstd_level) as transaction:
        oid = transaction.put(score)
        transaction.finish()
        if current != oid:
            repo.refs.move(ref, expected=current, new=oid, signature=signature)

"""Two bases and a fine-tune of each, recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiny_checkpoints import weights

from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


def record_two_versions(repo: Repository, folder: Path, sign: Callable[[], Signature]) -> None:
    """Bases v1 and v2, and a fine-tune of each: chat and other; each in a folder of its name."""
    for seed, base, tuned in ((0, "v1", "chat"), (50, "v2", "other")):
        tensors = weights(seed)
        write_checkpoint(folder / base, tensors)
        write_checkpoint(folder / tuned, fine_tuned(tensors, seed=seed + 1))
        import_base(repo, str(folder / base), draft=Draft(signature=sign()))
        commit(repo, str(folder / tuned), base=base, draft=Draft(signature=sign()))

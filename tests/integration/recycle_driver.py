"""One `recycle` run in a process of its own, which can be made to die at any write (see test_recycle)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from deltavcs.identity import Identity
from deltavcs.porcelain.recycle import Training, recycle
from deltavcs.repo import open_repository
from deltavcs.steps.stages import Stage
from deltavcs.storage import LocalStorage

TRAIN = str(Path(__file__).parent / "recycle_train.py")


def main(root: Path, mode: str, die_at: str) -> None:
    """Run; kill this process hard at a change of the repository.

    Args:
        die_at: the how many-th (0: never), or the first of a kind in a stage, such as "2 rename refs".
    """
    count, current = 0, 0

    def watch(stage: Stage, n_stages: int) -> None:
        nonlocal current
        current = stage.position

    def step(self: LocalStorage, what: str, key: str) -> None:
        nonlocal count
        count += 1
        if die_at in (str(count), f"{current} {what} {key.partition('/')[0]}"):
            os.kill(os.getpid(), signal.SIGKILL)

    LocalStorage.step = step
    done = recycle(
        open_repository(root / "repo", identity=Identity("tester", lambda: 1_700_000_000_000_000)),
        ["m1", "m2", "m3"],
        Training(f"{sys.executable} {TRAIN} {{init}} {{out}} {root / 'deaths'}", root / "work", watch=watch),
        name="run",
        iterative=mode == "iterative",
    )
    for result in done.stages:
        print(result.stage.branch, result.commit, "reused" if result.reused else "new")
    print("steps", count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

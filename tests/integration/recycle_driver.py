"""One `recycle` run in a process of its own, which can be made to die at any write (see test_recycle)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from deltavcs.porcelain.recycle import recycle
from deltavcs.repo import open_repository
from deltavcs.storage import LocalStorage

TRAIN = str(Path(__file__).parent / "recycle_train.py")


def main(root: Path, mode: str, die_at: int) -> None:
    """Run; kill this process hard at the `die_at`-th change of the repository (0: never)."""
    count = 0

    def step(self: LocalStorage, what: str, key: str) -> None:
        nonlocal count
        count += 1
        if count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    LocalStorage.step = step
    done = recycle(
        open_repository(root / "repo"),
        ["m1", "m2", "m3"],
        f"{sys.executable} {TRAIN} {{init}} {{out}} {root / 'deaths'}",
        name="run",
        work=root / "work",
        iterative=mode == "iterative",
        author="tester",
        clock=lambda: 1_700_000_000_000_000,
    )
    for result in done.stages:
        print(result.stage.branch, result.commit, "reused" if result.reused else "new")
    print("steps", count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

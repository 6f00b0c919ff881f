"""`dvx recycle` on a terminal, where the user's command writes too."""

from __future__ import annotations

import json
import re
import sys

TRAINING = """
import shutil, sys, time
for i in range(3):
    print("step", i, flush=True)
    time.sleep(0.5)
shutil.copytree(sys.argv[1], sys.argv[2])
"""


def words(folder, *more):
    (folder / "training.py").write_text(TRAINING)
    train = f"{sys.executable} training.py {{init}} {{out}}"
    return ("recycle", "--bases", "v1", "v2", "--train", train, "--as", "again", *more)


def test_no_bar_in_what_a_training_prints(repo, terminal):
    shown = terminal(*words(repo))
    assert shown.code == 0, shown.text
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.text)
    lines = [line.rpartition("\r")[2].rstrip() for line in plain.replace("\r\n", "\n").split("\n")]
    steps = [f"step {i}" for i in range(3)]
    trainings = [i for i, line in enumerate(lines) if line == "step 0"]
    assert [lines[i : i + 3] for i in trainings] == [steps, steps]
    assert "━" not in plain
    notes = [line for line in lines if line.startswith("note: ")]
    assert notes == [
        "note: stage 1 of 3: fine-tune v1",
        "note: stage 2 of 3: v2 + diff vector of again/v1",
        "note: stage 3 of 3: fine-tune again/v2.init",
    ]


def test_json_is_clean(repo, process):
    done = process(*words(repo, "--json"))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["stages"]) == 3
    assert done.stderr == "".join(f"step {i}\n" for i in range(3)) * 2

"""The benchmarks run from end to end at tiny sizes, whether or not their contestants are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_HEADINGS = (
    "## Targets",
    "## Size and speed of the codec",
    "## Scaling with threads",
    "## Whole commands on 1 GiB",
    "## Where the time goes",
    "## Growing models",
    "## Memory",
    "## Long histories and start-up",
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_every_section_runs_and_writes_its_part(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "--quick"]
    words += ["--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    assert [h for h in _HEADINGS if h not in page] == []
    assert "failed:" not in page
    assert "A quick run" in page
    assert not list((tmp_path / "work").iterdir())
    for image in (tmp_path / "out").glob("img/*.svg"):
        assert image.stat().st_size < 100_000

"""A bounded run of the sanitised decoder fuzzer; the long one is `tests/fuzz/run.sh SECONDS`."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc with its sanitizers")
def test_decoder_survives_fuzzing() -> None:
    script = Path(__file__).with_name("run.sh")
    run = subprocess.run(
        ["sh", str(script), "5"],
        capture_output=True,
        text=True,
        timeout=240,
        env={"FUZZ_CC": "gcc", "PATH": "/usr/bin:/bin"},
    )
    if "cannot find" in run.stderr and "asan" in run.stderr:
        pytest.skip("gcc lacks its sanitizer libraries")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "no fault" in run.stdout

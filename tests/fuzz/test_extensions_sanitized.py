"""The extension modules under ASan and UBSan: their own tests, and hostile calls at random."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Every kernel at every level, forged chunks and files, every refusal.
TESTS = (
    "tests/unit/objects/test_nativeentry.py",
    "tests/unit/codec/test_codec_kernels.py",
    "tests/unit/tensors/test_tensor_kernels.py",
    "tests/property/test_native_arithmetic.py",
    "tests/fuzz/native_calls.py",
)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc with its sanitizers")
def test_extension_modules_are_clean_under_sanitizers() -> None:
    run = subprocess.run(
        ["sh", str(ROOT / "tests/fuzz/sanitized.sh"), *TESTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        env={"PYTHON": sys.executable, "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    if "cannot find" in run.stderr and "asan" in run.stderr:
        pytest.skip("gcc lacks its sanitizer libraries")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout.splitlines()[-1]

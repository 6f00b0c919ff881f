"""What an installation without a C compiler costs: `python -m benchmarks.no_compiler`; about a minute."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROUNDS = 3
_NATIVE = ("deltavcs.codec._native", "deltavcs.objects._native", "deltavcs.tensors._native")
_BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({_NATIVE!r}))"
_MAIN = "import sys; sys.argv[0] = 'dvx'; from dvx.main import main; sys.exit(main())"


def write_pair(folder: Path) -> None:
    """A checkpoint of 32 MiB in bf16, and the same after a little noise."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    base = {f"layers.{i}.weight": (torch.randn(1024, 1024) * 0.02).bfloat16() for i in range(16)}
    tune = {k: (v.float() + 1e-4 * torch.randn(v.shape)).bfloat16() for k, v in base.items()}
    save_file(base, folder / "base.safetensors")
    save_file(tune, folder / "tune.safetensors")


def seconds(repo: Path, *words: str, kernels: bool) -> float:
    """How long a command takes, start-up included."""
    code = _MAIN if kernels else f"{_BLOCKED}; {_MAIN}"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words], cwd=repo, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pair(folder)
        for kernels in (True, False):
            times = [measure(folder, f"{kernels}{i}", kernels=kernels) for i in range(_ROUNDS)]
            packs = sum(p.stat().st_size for p in (folder / f"{kernels}0/.dvx/packs").rglob("*.pack"))
            commit, checkout = (min(column) for column in zip(*times, strict=True))
            print(
                f"kernels: {kernels}, commit {commit:.2f} s, checkout {checkout:.2f} s, packs {packs:,} bytes"
            )
        across = seconds(folder / "True0", "checkout", "tune", "-o", "across", kernels=False)
        print(f"checkout without kernels of what kernels wrote: {across:.1f} s")


def measure(folder: Path, name: str, *, kernels: bool) -> tuple[float, float]:
    """Seconds of commit and checkout in a repository of their own."""
    repo = folder / name
    repo.mkdir()
    seconds(repo, "init", kernels=kernels)
    seconds(repo, "import", "../base.safetensors", "--as", "base", kernels=kernels)
    commit = seconds(repo, "commit", "../tune.safetensors", "--base", "base", "--as", "tune", kernels=kernels)
    return commit, seconds(repo, "checkout", "tune", "-o", "out", kernels=kernels)


if __name__ == "__main__":
    main()

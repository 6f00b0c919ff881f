"""What this ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from deltavcs.codec import native_info

from .base import GIB, MIB, Result

PACKAGES = ("deltavcs", "numpy", "torch", "zstandard", "duckdb", "zipnn", "pcodec", "z4ai")


def describe(work: Path, quick: bool) -> Result:
    """Processor, memory, disk, versions."""
    work.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = native_info()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": round(_memory() / GIB, 1),
        "file_system": _file_system(work),
        "write_mb_per_s": _write_speed(work / "write-speed", 8 * MIB if quick else 512 * MIB),
        "kernels": f"{info.level} ({info.why})",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _output(["git", "--version"]).removeprefix("git version "),
        "commit": _commit(),
    }


def now() -> str:
    """The date, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def render(machine: Result) -> list[str]:
    versions = ", ".join(f"{k} {v or 'absent'}" for k, v in machine["packages"].items())
    return [
        f"* {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB of memory, "
        f"{machine['file_system']}, which takes {machine['write_mb_per_s']:.0f} MB/s (fsync included)",
        f"* kernels: {machine['kernels']}",
        f"* {machine['system']}, git {machine['git']}",
        f"* {versions}; source at {machine['commit']}",
        "",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    name = named.get("model name", platform.machine())
    return f"{name} (family {named.get('cpu family', '?')}, model {named.get('model', '?')})"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_system(work: Path) -> str:
    lines = _output(["stat", "-f", "-c", "%T", str(work)])
    return f"{lines or 'unknown'} with {shutil.disk_usage(work).free / GIB:.0f} GiB free"


def _write_speed(path: Path, n_bytes: int) -> float:
    block = os.urandom(8 * MIB)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(n_bytes // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return n_bytes / seconds / 1e6


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    here = Path(__file__).parent
    head = _output(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "-C", str(here), "status", "--porcelain", "--", "../deltavcs", "../cli"])
    return f"{head} with changes" if head and changed else head or "unknown"


def _output(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()

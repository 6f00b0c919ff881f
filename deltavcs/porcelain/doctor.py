"""What this installation is made of."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.codec import native_info as codec_info
from deltavcs.config import FORMAT_VERSION
from deltavcs.repo import Repository
from deltavcs.resources import available_cores
from deltavcs.tensors.tensor_kernels import native_info as arithmetic_info

_OPTIONAL = ("peft",)
_REQUIREMENT = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: False if something needs attention.
        advice: what would help then.
    """

    topic: str
    value: str
    ok: bool = True
    advice: Advice | None = None


def doctor(repo: Repository | None = None, *, device: bool = True) -> list[Finding]:
    """Versions, native code, device and repository.

    Args:
        repo: also looked at, if there is one.
        device: ask torch for devices, which takes a second or two.
    """
    return [*_system(), *_packages(), *_native(), *(_device() if device else ()), *_repository(repo)]


def _system() -> Iterator[Finding]:
    yield Finding("deltavcs", _version("deltavcs") or "not installed as a package")
    yield Finding("python", platform.python_version())
    yield Finding("system", f"{platform.system()} {platform.machine()}, {available_cores()} cores")
    yield Finding("repository format", str(FORMAT_VERSION))


def _packages() -> Iterator[Finding]:
    for name in _required():
        found = _version(name)
        advice = Advice.INSTALL_PACKAGE if found is None else None
        yield Finding(name, found or "missing", found is not None, advice)
    for name in _OPTIONAL:
        yield Finding(name, _version(name) or "not installed (optional)")


def _required() -> list[str]:
    """What this package says it needs, without what only its extras need."""
    try:
        told = importlib.metadata.requires("deltavcs") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (_REQUIREMENT.match(line) for line in told if "extra ==" not in line)
    return sorted(found[0] for found in names if found is not None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _native() -> Iterator[Finding]:
    for topic, info in (("codec kernels", codec_info()), ("arithmetic kernels", arithmetic_info())):
        if info.available:
            yield Finding(topic, info.level)
            continue
        yield Finding(
            topic,
            f"absent ({info.why}); numpy does the work, more slowly",
            ok=False,
            advice=Advice.INSTALL_COMPILER,
        )


def _device() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            name = torch.cuda.get_device_name(i)
            yield Finding(f"cuda:{i}", f"{name}, {free >> 30} of {total >> 30} GiB free")
    else:
        yield Finding("device", "cpu only (torch sees no GPU)")


def _repository(repo: Repository | None) -> Iterator[Finding]:
    if repo is None:
        yield Finding("repository", "none here")
        return
    yield Finding("repository", str(repo.path))
    if not repo.format.writable:
        yield Finding("writable", "no", ok=False, advice=Advice.UPGRADE_TO_WRITE)
    yield Finding("packs", f"{len(repo.objects.packs.ids())} with {len(repo.objects.packs.table)} blobs")
    for pack, exc in repo.objects.packs.damaged.items():
        yield Finding(f"pack {pack[:12]}", exc.message, ok=False, advice=Advice.RUN_FSCK)

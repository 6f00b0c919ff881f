"""PyTorch and the devices that it has on this machine."""

from __future__ import annotations

from typing import Any

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError


def import_torch() -> Any:
    """The torch module.

    Raises:
        MissingDependencyError: `missing-package`.
    """
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError(
            "this needs PyTorch", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "torch"}
        ) from exc
    return torch


def checked_device(device: str) -> str:
    """The device, if torch has it here.

    Raises:
        InvalidInputError: `bad-argument`.
        MissingDependencyError: torch is not installed.
    """
    torch = import_torch()
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as exc:
        raise InvalidInputError(
            f"there is no kind of device called {device!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.NAME_DEVICE,
        ) from exc
    if found.type == "cpu":
        return device
    present = torch.accelerator.current_accelerator(check_available=True)
    if (
        present is None
        or present.type != found.type
        or (found.index or 0) >= torch.accelerator.device_count()
    ):
        raise InvalidInputError(
            f"this machine has no device {device}, or this torch ({torch.__version__}) cannot use it",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.OTHER_DEVICE,
        )
    return device

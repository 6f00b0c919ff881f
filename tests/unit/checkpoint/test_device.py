from __future__ import annotations

import sys
from typing import Any

import pytest

from deltavcs.advice import Advice
from deltavcs.checkpoint.device import checked_device, import_torch
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", "cuda:-1", None, 1.5])
def test_what_is_no_device(device: Any) -> None:
    with pytest.raises(InvalidInputError, match="there is no kind of device called") as caught:
        checked_device(device)
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BAD_ARGUMENT, Advice.NAME_DEVICE)


@pytest.mark.parametrize("device", ["cuda:999", "mps:999", "xpu", "meta"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"this machine has no device {device}, or this torch"
    ) as caught:
        checked_device(device)
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BAD_ARGUMENT, Advice.OTHER_DEVICE)


def test_the_cpu_is_always_here() -> None:
    assert checked_device("cpu") == "cpu"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (import_torch, lambda: checked_device("cpu")):
        with pytest.raises(MissingDependencyError) as caught:
            call()
        assert (caught.value.kind, caught.value.facts) == (ErrorKind.MISSING_PACKAGE, {"package": "torch"})

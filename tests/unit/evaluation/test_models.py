from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.evaluation.models import attach_adapter, build_model


def test_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        build_model(tmp_path, {})
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BAD_CHECKPOINT, Advice.TENSORS_ALONE)


def test_an_adapter_without_peft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError) as caught:
        attach_adapter(None, tmp_path)
    assert (caught.value.kind, caught.value.facts) == (ErrorKind.MISSING_PACKAGE, {"package": "peft"})


def test_a_model_without_transformers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError) as caught:
        build_model(tmp_path, {})
    assert caught.value.facts == {"package": "transformers"}

"""Tensors and models in memory: bad devices and missing packages are errors of this library's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.porcelain.checkout import checkout
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.load import load_model, load_tokenizer
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint

NEEDED = [
    (checkout, "torch"),
    (load_model, "torch"),
    (load_model, "transformers"),
    (load_tokenizer, "transformers"),
]


@pytest.fixture
def stored(repo: Repository, tmp_path: Path, sign: Any) -> Repository:
    write_checkpoint(tmp_path / "base", {"w": raw_tensor("BF16", (4, 4), seed=0)})
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama"}')
    import_base(repo, str(tmp_path / "base"), draft=Draft("base", signature=sign()))
    return repo


@pytest.mark.parametrize("load", [checkout, load_model])
@pytest.mark.parametrize("device", ["nonsense", "cuda:999", None])
def test_a_device_that_is_not_here(stored: Repository, load: Any, device: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load(stored, "base", device=device)
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT


@pytest.mark.parametrize(("load", "package"), NEEDED)
def test_a_package_that_is_not_installed(
    stored: Repository, monkeypatch: pytest.MonkeyPatch, load: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError) as caught:
        load(stored, "base")
    assert (caught.value.kind, caught.value.facts) == (ErrorKind.MISSING_PACKAGE, {"package": package})

"""The page of the Python API is current, and its examples run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import deltavcs as dv

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def generator() -> ModuleType:
    return load("gen_api")


def test_the_page_is_current() -> None:
    command = [sys.executable, "docs/gen_api.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_public_name(generator: ModuleType) -> None:
    assert generator.documented() == set(dv.__all__)


def test_every_kind_of_error_belongs_to_a_class(generator: ModuleType) -> None:
    classes = {one.__name__ for one in dv.DeltaVCSError.__subclasses__()}
    kinds = generator.kinds_by_class()
    raised = {kind for name in classes for kind in kinds.get(name, ())}
    assert set(dv.ErrorKind) - raised == {dv.ErrorKind.UNKNOWN_TENSOR}  # kept: the list is append-only


def test_every_example_is_on_the_page(generator: ModuleType) -> None:
    titles = {"At a glance", *generator.SECTIONS, "Values", "Errors"}
    assert generator.examples().keys() == titles
    page = generator.page()
    for code in generator.examples().values():
        assert f"```python\n{code}\n```" in page


def test_the_page_holds_nothing_of_this_machine(generator: ModuleType) -> None:
    page = generator.page()
    assert " at 0x" not in page
    assert str(ROOT) not in page
    assert str(Path.home()) not in page


@pytest.mark.parametrize("name", [n for n in dv.__all__ if not n.startswith("__")])
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(dv, name)
    if callable(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")


def write_models(folder: Path, make_model: Callable[..., Any], tokenizer: Any) -> None:
    """Two bases, two fine-tunes of the first, and a task: what the examples find in their folder."""
    import torch

    names = {"llama3.0": 0.0, "llama3.1": 0.05, "chat": 0.01, "code": 0.02}
    for seed, (name, by) in enumerate(names.items()):
        model = make_model()
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += by * torch.randn_like(parameter)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rows = [{"question": f"what is {i}?", "choices": ["one", "two"], "label": i % 2} for i in range(8)]
    (folder / "trivia.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVX_AUTHOR", "Ada <ada@example.org>")
    write_models(tmp_path, make_model, tokenizer)
    found = [one for one in vars(load("api_examples")).values() if callable(one)]
    assert len(found) == len(load("gen_api").examples())
    for example in found:
        example()
    assert dv.fsck(dv.open("models"), full=True).problems == ()

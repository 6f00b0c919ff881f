"""What all tests share: a clean environment, a fixed clock and identity, Hypothesis profiles."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Modules of their own, used from several folders: the independent reader, and what builds test data.
sys.path[:0] = [str(Path(__file__).parent / name) for name in ("reader", "support", "compatibility")]

_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "ci", deadline=None, max_examples=40, derandomize=True, suppress_health_check=_SLOW_MACHINES
)
settings.register_profile("deep", deadline=None, max_examples=1000, suppress_health_check=_SLOW_MACHINES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("DVX_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def sign():
    """Makes signatures of one author at one second after another: the fixed clock of a test."""
    from deltavcs.signature import Signature

    clock = itertools.count(1_700_000_000)
    return lambda message="": Signature("tester", next(clock) * 1_000_000, message)


@pytest.fixture
def repo(tmp_path):
    """An empty repository, without fsync."""
    from deltavcs.repo import init_repository

    return init_repository(tmp_path / "repo", sync=False)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from tiny_llama import build_tokenizer

    return build_tokenizer(chat=False)


@pytest.fixture(scope="session")
def chat_tokenizer() -> Any:
    from tiny_llama import build_tokenizer

    return build_tokenizer(chat=True)


@pytest.fixture
def make_model() -> Any:
    import torch
    from tiny_llama import build_model

    # No more, and not more than a folder of tests asked for: sums of another order are other losses.
    torch.set_num_threads(min(2, torch.get_num_threads()))
    return build_model

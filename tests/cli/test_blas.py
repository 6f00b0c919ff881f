"""numpy's idle threads sleep, and the user's own commands do not hear of it."""

import os

import pytest

from dvx import blas

NAME = "OPENBLAS_THREAD_TIMEOUT"


def test_it_is_set_here_and_kept_from_commands_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "")
    monkeypatch.delenv(NAME)
    blas.calm()
    assert os.environ[NAME] == "4"
    assert NAME not in blas.environment()
    assert blas.environment()["PATH"] == os.environ["PATH"]


def test_what_the_user_set_stays_and_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "20")
    blas.calm()
    assert os.environ[NAME] == "20"
    assert blas.environment()[NAME] == "20"

"""Pickled files: what is opened, what is refused, and by which name."""

from __future__ import annotations

import pickle

import pytest
import torch

from deltavcs.advice import Advice
from deltavcs.checkpoint.pickled_state import read_pickled
from deltavcs.errors import ErrorKind, InvalidInputError


def state(n: int = 3) -> dict[str, torch.Tensor]:
    return {f"layers.{i}.weight": torch.full((2, 2), float(i)) for i in range(n)}


def read(tmp_path, value):
    torch.save(value, tmp_path / "x.pt")
    return read_pickled(tmp_path / "x.pt")


def refusal(tmp_path, value):
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, value)
    return caught.value


@pytest.mark.parametrize(
    ("value", "wrapper"),
    [
        (state(), ""),
        (
            {"epoch": 3, "model_state_dict": state(), "optimizer": {"state": {}}},
            "model_state_dict",
        ),
        ({"state_dict": state(), "callbacks": {"best": {"score": torch.tensor(1.0)}}}, "state_dict"),
        ({"module": state(), "param_shapes": [{"a": torch.Size([2])}]}, "module"),
        ({"model": {"state_dict": state()}, "step": torch.tensor(3)}, "model.state_dict"),
        ({"model": state(), "args": {"model": "big"}}, "model"),
        ({"model": {"hidden": 8}, "state_dict": state()}, "state_dict"),
    ],
)
def test_wrappers(tmp_path, value, wrapper):
    found = read(tmp_path, value)
    assert found.wrapper == wrapper
    assert found.tensors.keys() == state().keys()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"model": state(), "model_state_dict": state()}, "model, model_state_dict"),
        ({"model": state(), "ema": state()}, "model, ema"),
        ({"generator": state(), "discriminator": {"d.weight": torch.ones(1)}}, "generator, discriminator"),
        ({"weights_of_mine": state()}, "'weights_of_mine'"),
    ],
)
def test_what_could_be_several_states_is_refused_with_the_keys(tmp_path, value, named):
    error = refusal(tmp_path, value)
    assert named in str(error)
    assert (error.kind, error.advice) == (ErrorKind.BAD_CHECKPOINT, Advice.SAVE_ONE_STATE)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.eye(4).to_sparse(), "sparse"),
        (lambda: torch.eye(4).to_sparse_csr(), "sparse"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), "qint8"),
        (lambda: torch.ones(4, dtype=torch.complex128), "complex128"),
        (lambda: torch.empty(4, device="meta"), "meta device"),
        (lambda: torch.zeros(1).expand(1 << 40), "repeats a few values"),
    ],
)
def test_what_safetensors_cannot_hold_is_refused_by_name(tmp_path, make, reason):
    error = refusal(tmp_path, state() | {"odd.one": make()})
    assert "'odd.one'" in str(error)
    assert reason in str(error)
    assert (error.kind, error.advice) == (ErrorKind.BAD_CHECKPOINT, Advice.SAVE_PLAIN_TENSORS)


@pytest.mark.parametrize("name", ["", "a::b", "__metadata__"])
def test_names_that_cannot_be_stored(tmp_path, name):
    error = refusal(tmp_path, state() | {name: torch.ones(1)})
    assert repr(name) in str(error)
    assert error.advice is Advice.RENAME_TENSOR


def test_values_that_are_no_tensors(tmp_path):
    assert "'layers.extra' is not a tensor" in str(refusal(tmp_path, state() | {"layers.extra": None}))
    assert "3 is no name" in str(refusal(tmp_path, state() | {3: torch.ones(1)}))
    assert "no dictionary of tensors" in str(refusal(tmp_path, [1, 2]))


def test_partitioned_weights_are_said_to_lie_elsewhere(tmp_path):
    error = refusal(tmp_path, {"module": {k: torch.empty(0) for k in state()}, "optimizer": None})
    assert "under module" in str(error)
    assert error.advice is Advice.GATHER_PARTS


def test_a_whole_model_is_not_loaded(tmp_path):
    error = refusal(tmp_path, torch.nn.Linear(2, 2))
    assert "torch.nn.modules.linear.Linear" in str(error)
    assert (error.kind, error.advice) == (ErrorKind.PICKLE_REFUSED, Advice.SAVE_STATE_DICT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_is_not_loaded(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(InvalidInputError, match="TorchScript") as caught:
        read_pickled(tmp_path / "x.pt")
    assert caught.value.kind is ErrorKind.PICKLE_REFUSED


class Shell:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def test_nobody_is_told_to_run_the_code_of_a_file(tmp_path):
    error = refusal(tmp_path, {"a": Shell()})
    assert "it holds an object of posix.system" in str(error)
    (tmp_path / "y.pt").write_bytes(pickle.dumps({"a": [1]}, protocol=4))
    with pytest.raises(InvalidInputError, match="no pickle of tensors") as caught:
        read_pickled(tmp_path / "y.pt")
    assert "weights_only" not in str(caught.value)


def test_a_download_that_ended_early_is_told(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="the file is empty"):
        read_pickled(tmp_path / "x.pt")
    torch.save(state(), tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInputError, match="truncated"):
        read_pickled(tmp_path / "x.pt")


def test_what_is_no_pickle(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInputError) as caught:
        read_pickled(tmp_path / "x.pt")
    assert caught.value.advice is Advice.ONLY_TENSORS

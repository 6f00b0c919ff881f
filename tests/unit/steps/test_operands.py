"""Checkpoints that arithmetic is done with."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import Purpose
from deltavcs.checkpoint.view import view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.operands import Operands, dequantised_facts, open_operands
from deltavcs.steps.recording import Draft

W = "q_proj.weight"


@pytest.fixture
def quantised(repo, tmp_path, sign):
    """`plain`, `fp8` and `ints` in a repository."""
    packed = torch.ones(4, 4).to(torch.float8_e4m3fn)
    states = {
        "plain": {W: torch.ones(4, 4)},
        "fp8": {W: packed, f"{W}_scale": torch.tensor(2.0)},
        "ints": {"q_proj.qweight": torch.zeros(1, 4, dtype=torch.int32), "q_proj.scales": torch.ones(1, 4)},
    }
    for name, state in states.items():
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps({"dtype": "float32"}))
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=sign()))
    return repo


def opened(repo, *names, **options):
    return open_operands(repo, [repo.resolve(n) for n in names], names, **options)


@pytest.mark.parametrize("dequantize", [False, True])
def test_plain_weights_are_what_is_stored(quantised, dequantize):
    found = opened(quantised, "plain", dequantize=dequantize)
    assert found.objects is quantised.objects
    assert found.manifests == (quantised.manifest(quantised.resolve("plain")),)
    assert dequantised_facts("merge", found) == {}


@pytest.mark.parametrize(
    ("name", "options", "advice"),
    [
        ("fp8", {}, Advice.DEQUANTIZE),
        ("fp8", {"purpose": Purpose.RUN}, Advice.CHECK_OUT_DEQUANTIZED),
        ("ints", {}, Advice.USE_UNQUANTISED),
        ("ints", {"dequantize": True}, Advice.USE_UNQUANTISED),
    ],
)
def test_stored_numbers_that_are_no_weights_are_refused(quantised, name, options, advice):
    with pytest.raises(InvalidInputError, match=f"{name} is quantised") as caught:
        opened(quantised, "plain", name, **options)
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.QUANTISED, advice)


def test_only_what_is_quantised_is_dequantised(quantised):
    found = opened(quantised, "plain", "fp8", dequantize=True)
    assert isinstance(found, Operands)
    assert found.dequantised == {"fp8": "fp8 with scales"}
    assert dequantised_facts("transfer", found) == {"transfer.dequantized": "fp8: fp8 with scales"}
    plain, dequantised = found.manifests
    assert plain == quantised.manifest(quantised.resolve("plain"))
    assert {k: t.dtype for k, t in dequantised.tensors.items()} == {W: "F64"}
    assert found.dtypes == {}  # the first gives its dtypes, and has them


def test_results_have_the_dtypes_of_the_first(quantised):
    found = opened(quantised, "fp8", "plain", dequantize=True)
    assert found.dtypes == {W: "F32"}
    view = found.stored_view(view_of(found.manifests[0]))
    assert (view.tensors[W].dtype, view.size) == ("F32", sum(f.size for f in view.files))

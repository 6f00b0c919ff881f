"""Computed checkpoints as operands of what is computed from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deltavcs.checkpoint.computed_store import ComputedStore
from deltavcs.checkpoint.dequantise import dequantise
from deltavcs.checkpoint.elements import read_elements
from deltavcs.checkpoint.materialize import load_state
from deltavcs.checkpoint.view import Content, view_of
from deltavcs.objects.derivation import Derivation, Operand
from deltavcs.porcelain.import_ import import_base
from deltavcs.resources import Resources
from deltavcs.steps.recording import Draft

W = "q_proj.weight"


@pytest.fixture
def added(repo, tmp_path, sign):
    """A store with a dequantised checkpoint in it, its manifest, and the weights."""
    packed = torch.arange(12.0).reshape(3, 4).to(torch.float8_e4m3fn)
    state = {W: packed, f"{W}_scale": torch.tensor(0.5), "norm.weight": torch.ones(4)}
    (tmp_path / "q").mkdir()
    save_file(state, tmp_path / "q/model.safetensors")
    import_base(repo, str(tmp_path / "q"), draft=Draft("q", signature=sign()))
    view, _ = dequantise(repo.objects, view_of(repo.manifest(repo.resolve("q"))), "q")
    store = ComputedStore(repo.objects)
    return store, store.add(view), packed.float().numpy() * 0.5


def test_its_elements_are_read_as_stored_ones_are(added):
    store, manifest, weights = added
    np.testing.assert_array_equal(read_elements(store, manifest.tensors[W], 0, 12), weights.reshape(-1))
    padded = read_elements(store, manifest.tensors[W], 10, 5)
    np.testing.assert_array_equal(padded, [*weights.reshape(-1)[10:], 0, 0, 0])
    np.testing.assert_array_equal(read_elements(store, manifest.tensors["norm.weight"], 0, 4), 1)


def test_what_is_made_of_it_names_no_blob_that_only_the_store_knows(repo, added):
    store, manifest, weights = added
    view = view_of(manifest)
    operand = Operand(manifest.tensors[W].blob, 12)
    twice = Derivation("linear", {"program": [0, 0, "+"]}, (operand,))
    view.tensors["twice"] = Content("F64", (3, 4), derivation=twice)
    plain = store.stored_view(view, {W: "BF16", "twice": "F16"})
    assert [k for k, c in plain.tensors.items() if c.blob is not None] == ["norm.weight"]
    assert all(f.blob is None or repo.objects.packs.knows(f.blob) for f in plain.files)
    assert (plain.tensors[W].dtype, plain.tensors["twice"].dtype) == ("BF16", "F16")
    found = load_state(repo.objects, plain, device="cpu", resources=Resources())
    np.testing.assert_array_equal(found[W].float().numpy(), weights)
    np.testing.assert_array_equal(found["twice"].numpy(), 2 * weights)


def test_derivations_of_stored_blobs_stay(added):
    store, manifest, _ = added
    stored = manifest.tensors["norm.weight"].blob
    rule = Content("F32", (4,), derivation=Derivation("linear", {"program": [0]}, (Operand(stored, 4),)))
    view = view_of(manifest)
    view.tensors["norm.weight"] = rule
    assert store.stored_view(view, {}).tensors["norm.weight"] is rule

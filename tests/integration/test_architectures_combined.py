"""Transfer and merge over many families: the result is what float64 says, and all of it loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, OTHER_ARCHITECTURES, VOCAB, nudged
from safetensors.torch import load_file

import deltavcs as dv
from deltavcs.repo import init_repository

_FAMILIES = {**ARCHITECTURES, **OTHER_ARCHITECTURES}
_MORE = 3


@pytest.fixture(scope="module", params=sorted(_FAMILIES))
def family(request, tmp_path_factory):
    """Folders of two bases, a fine-tune with more tokens and one without, and a repository that has them."""
    folder = tmp_path_factory.mktemp(request.param)
    make = _FAMILIES[request.param]
    grown = nudged(make(), seed=1)
    grown.resize_token_embeddings(VOCAB + _MORE, mean_resizing=False)
    models = {"old": make(), "new": nudged(make(), seed=5), "grown": nudged(grown, seed=3)}
    repo = init_repository(folder / "repo", sync=False)
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if name in ("old", "new"):
            dv.import_base(repo, str(folder / name), draft=dv.Draft(name))
        else:
            dv.commit(repo, str(folder / name), base="old", draft=dv.Draft(name))
    return repo, folder


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _padded(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    out = torch.zeros(shape, dtype=torch.float64)
    out[tuple(slice(0, n) for n in tensor.shape)] = tensor.double()
    return out


def _check_loads(folder: Path, rows: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    model, found = getattr(transformers, config["architectures"][0]).from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(found.values()), found
    assert model.get_input_embeddings().weight.shape[0] == rows


def test_a_transfer_is_exact_and_its_vocabulary_grows(family):
    repo, folder = family
    (done,) = dv.transfer(repo, "grown", "new", scale=0.5, draft=dv.Draft("carried"))
    dv.checkout_files(repo, "carried", str(folder / "carried"))
    target, tuned, source = (_stored(folder / n) for n in ("new", "grown", "old"))
    made = _stored(folder / "carried")
    assert made.keys() == target.keys()
    for key, value in made.items():
        t, f, s = (_padded(x[key], value.shape) for x in (target, tuned, source))
        assert torch.equal(value, (t + 0.5 * (f - s)).to(value.dtype)), key
    assert {k for k in made if made[k].shape != target[k].shape} == {
        p.partition(" ")[0] for p in done.compatibility.padded
    }
    _check_loads(folder / "carried", VOCAB + _MORE)


def test_a_merge_keeps_the_rows_that_one_model_alone_has(family):
    repo, folder = family
    dv.merge(repo, ["new", "grown"], draft=dv.Draft("both"))
    dv.checkout_files(repo, "both", str(folder / "both"))
    small, large, made = (_stored(folder / n) for n in ("new", "grown", "both"))
    assert made.keys() == small.keys()
    for key, value in made.items():
        one, other = _padded(small[key], value.shape), _padded(large[key], value.shape)
        lacking = _padded(torch.ones_like(small[key]), value.shape) == 0
        assert torch.equal(value, torch.where(lacking, other, (one + other) / 2).to(value.dtype)), key
    _check_loads(folder / "both", VOCAB + _MORE)

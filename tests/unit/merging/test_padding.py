"""Rows that a model lacks change nothing in a merge."""

from __future__ import annotations

import json

import pytest
import torch
from architectures import ARCHITECTURES, VOCAB, nudged
from safetensors.torch import load_file
from saved_models import loaded, save_model

import deltavcs as dv
from deltavcs.merging.by_statistics import check_alike
from deltavcs.merging.counterparts import MergeInput
from deltavcs.repo import init_repository

_EMBEDDING = "model.embed_tokens.weight"
_SIZES = {"small": VOCAB, "middle": VOCAB + 2, "large": VOCAB + 5}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Base old, and fine-tunes of three sizes."""
    folder = tmp_path_factory.mktemp("sizes")
    repo = init_repository(folder / "repo", sync=False)
    save_model(folder / "old", ARCHITECTURES["llama"]())
    dv.import_base(repo, str(folder / "old"), draft=dv.Draft("old"))
    for seed, (name, rows) in enumerate(_SIZES.items(), start=1):
        model = ARCHITECTURES["llama"]()
        model.resize_token_embeddings(rows, mean_resizing=False)
        save_model(folder / name, nudged(model, seed=seed))
        dv.commit(repo, str(folder / name), base="old", draft=dv.Draft(name))
    return repo, folder


def _embedding(folder, name):
    return load_file(folder / name / "model.safetensors")[_EMBEDDING].double()


def _merged(models, method=None):
    repo, folder = models
    name = f"by-{method.name}" if method else "by-average"
    done = dv.merge(repo, list(_SIZES), method, draft=dv.Draft(name))
    assert any(p.startswith(_EMBEDDING) for p in done.padded)
    dv.checkout_files(repo, name, folder / name)
    assert loaded(folder / name)[0].config.vocab_size == _SIZES["large"]
    return _embedding(folder, name), [_embedding(folder, n) for n in _SIZES]


def test_an_average_is_of_the_models_that_have_the_row(models):
    made, (small, middle, large) = _merged(models)
    assert torch.allclose(made[:VOCAB], (small + middle[:VOCAB] + large[:VOCAB]) / 3, rtol=0, atol=1e-7)
    assert torch.allclose(
        made[VOCAB : VOCAB + 2], (middle[VOCAB:] + large[VOCAB : VOCAB + 2]) / 2, rtol=0, atol=1e-7
    )
    assert torch.equal(made[VOCAB + 2 :], large[VOCAB + 2 :])


def test_weights_are_shared_among_the_models_that_have_the_row(models):
    made, (_, middle, large) = _merged(models, dv.MergeMethod("weighted", {"weights": [5, 1, 3]}))
    both = (middle[VOCAB:] + 3 * large[VOCAB : VOCAB + 2]) / 4
    assert torch.allclose(made[VOCAB : VOCAB + 2], both, rtol=0, atol=1e-7)
    assert torch.allclose(made[VOCAB + 2 :], large[VOCAB + 2 :], rtol=0, atol=1e-7)


def test_a_row_that_the_base_lacks_is_a_difference_from_zeros(models):
    made, (_, middle, large) = _merged(models, dv.MergeMethod("task_arithmetic", {"scale": 0.5}))
    both = 0.5 * (middle[VOCAB:] + large[VOCAB : VOCAB + 2])
    assert torch.allclose(made[VOCAB : VOCAB + 2], both, rtol=0, atol=1e-7)
    assert torch.allclose(made[VOCAB + 2 :], 0.5 * large[VOCAB + 2 :], rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties"])
def test_a_model_that_lacks_a_row_of_the_base_does_not_change_it(models, method, tmp_path):
    repo, folder = models
    density = {"density": 1.0}
    dv.merge(repo, ["small"], dv.MergeMethod(method, density, base="large"), draft=dv.Draft("cut"))
    dv.merge(repo, ["small", "large"], dv.MergeMethod(method, density, base="large"), draft=dv.Draft(method))
    for name in ("cut", method):
        dv.checkout_files(repo, name, tmp_path / name)
    assert torch.equal(_embedding(tmp_path, "cut")[:VOCAB], _embedding(folder, "small"))
    assert len(_embedding(tmp_path, "cut")) == VOCAB
    assert torch.equal(_embedding(tmp_path, method)[VOCAB:], _embedding(folder, "large")[VOCAB:])


def test_other_rows_than_those_of_the_vocabulary_are_refused(models, tmp_path):
    repo, _ = models

    def cut(tensors):
        return {k: v[:-1].clone() if k.endswith("0.mlp.up_proj.weight") else v for k, v in tensors.items()}

    save_model(tmp_path / "odd", ARCHITECTURES["llama"](), cut)
    dv.import_base(repo, str(tmp_path / "odd"), draft=dv.Draft("odd"))
    with pytest.raises(
        dv.InvalidInputError, match=r"up_proj\.weight is \[48, 32\] in small, \[47, 32\] in odd"
    ):
        dv.merge(repo, ["small", "odd"], draft=dv.Draft("no"))


def test_statistics_are_of_models_of_one_size(models):
    repo, _ = models
    inputs = [MergeInput(n, repo.manifest(repo.resolve(n))) for n in ("small", "large")]
    with pytest.raises(dv.InvalidInputError, match=r"regmean needs .* of the same shapes: lm_head"):
        check_alike(repo.objects, dv.MERGE_METHODS["regmean"], inputs)


def test_without_a_model_no_rows_are_guessed(repo, models, tmp_path):
    _, folder = models
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(
            (folder / name / "model.safetensors").read_bytes()
        )
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "odd"}))
        dv.import_base(repo, str(tmp_path / name), draft=dv.Draft(name))
    with pytest.raises(dv.InvalidInputError, match="embed_tokens"):
        dv.merge(repo, ["small", "large"], draft=dv.Draft("no"))

"""The base of a fine-tune: what a checkout left, the branch, the weights, or a refusal that helps."""

from __future__ import annotations

import pytest
from lora_adapters import write_adapter
from tiny_checkpoints import weights

from deltavcs.advice import Advice
from deltavcs.checkpoint.marker import MARKER, Marker, encode_marker
from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.commit import commit
from deltavcs.steps.bases import check_fits, find_base, measured
from deltavcs.steps.found_base import Base
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint


def found(repo, folder, tip=None):
    with open_checkpoint(folder) as checkpoint:
        return find_base(repo, checkpoint, folder, tip)


def fits(repo, folder, name):
    with open_checkpoint(folder) as checkpoint:
        return check_fits(repo, checkpoint, Base(repo.resolve(name), name, "given"))


def mark(folder, commit_id):
    (folder / MARKER).write_bytes(encode_marker(Marker(commit_id, "x")))


def test_the_marker_of_a_checkout_comes_first(models):
    repo, folder = models
    write_checkpoint(folder / "more", fine_tuned(fine_tuned(weights(0), seed=1), seed=5, scale=0.3))
    mark(folder / "more", repo.resolve("chat"))
    base = found(repo, folder / "more", repo.resolve("other"))
    assert (base.commit, base.name, base.how) == (repo.resolve("chat"), "chat", "marker")
    assert 0.2 < base.distance < 0.4


def test_a_marker_that_the_weights_deny_is_passed_over(models):
    repo, folder = models
    write_checkpoint(folder / "new", fine_tuned(weights(0), seed=9))
    mark(folder / "new", repo.resolve("v2"))
    base = found(repo, folder / "new")
    assert (base.name, base.how, base.passed_over.name) == ("v1", "inferred", "v2")
    assert base.passed_over.distance > 1


def test_a_marker_stands_where_nothing_is_near(models):
    repo, folder = models
    write_checkpoint(folder / "new", weights(777))
    mark(folder / "new", repo.resolve("v2"))
    base = found(repo, folder / "new")
    assert (base.name, base.how, base.is_unrelated, base.nearer) == ("v2", "marker", True, None)


def test_a_marker_of_another_repository_is_passed_over(models):
    repo, folder = models
    mark(folder / "chat", "0" * 64)
    assert found(repo, folder / "chat", repo.resolve("chat")).how == "previous"


def test_an_adapter_that_was_trained_on_keeps_its_base(models, sign):
    repo, folder = models
    source = write_adapter(folder / "lora")
    commit(repo, str(source), base="v1", draft=Draft("lora", signature=sign()))
    mark(source, repo.resolve("lora"))
    wanted = Base(repo.resolve("v1"), "v1", "marker", init=repo.resolve("lora"))
    assert found(repo, source) == wanted


def test_a_branch_keeps_its_base_though_its_tip_is_nearer(models):
    repo, folder = models
    write_checkpoint(folder / "more", fine_tuned(fine_tuned(weights(0), seed=1), seed=5, scale=0.001))
    base = found(repo, folder / "more", repo.resolve("chat"))
    assert (base.name, base.how) == ("v1", "previous")


def test_a_branch_that_the_weights_have_nothing_to_do_with_does_not_give_the_base(models):
    repo, folder = models
    write_checkpoint(folder / "more", fine_tuned(weights(50), seed=5))
    base = found(repo, folder / "more", repo.resolve("chat"))
    assert (base.name, base.how, base.passed_over.name) == ("v2", "inferred", "v1")


def test_a_base_that_was_given_is_measured_and_what_is_nearer_is_named(models):
    repo, folder = models
    with open_checkpoint(write_checkpoint(folder / "new", fine_tuned(weights(0), seed=9))) as checkpoint:
        right, wrong = (measured(repo, checkpoint, Base(repo.resolve(n), n, "given")) for n in ("v1", "v2"))
    assert (right.is_unrelated, right.nearer) == (False, None)
    assert (wrong.is_unrelated, wrong.nearer.name) == (True, "v1")


@pytest.mark.parametrize(("seed", "name"), [(0, "v1"), (50, "v2")])
def test_the_nearest_weights_are_the_base(models, seed, name):
    repo, folder = models
    write_checkpoint(folder / "new", fine_tuned(weights(seed), seed=99, scale=0.001))
    base = found(repo, folder / "new")
    assert (base.name, base.how) == (name, "inferred")
    assert 0 < base.distance < 0.01


def test_weights_that_are_near_to_none(models):
    repo, folder = models
    write_checkpoint(folder / "new", weights(777))
    with pytest.raises(InvalidInputError, match="its weights are unrelated") as caught:
        found(repo, folder / "new")
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.BASE_UNKNOWN, Advice.NAME_OR_IMPORT_BASE)
    assert all(name in str(caught.value) for name in ("v1", "v2"))


def test_an_empty_repository_has_no_base(repo, tmp_path):
    write_checkpoint(tmp_path / "new", weights())
    with pytest.raises(InvalidInputError, match="the repository is empty") as caught:
        found(repo, tmp_path / "new")
    assert caught.value.advice is Advice.IMPORT_BASE_FIRST


def test_an_adapter_that_fits_two_bases_or_none(models):
    repo, folder = models
    with pytest.raises(InvalidInputError, match=r"it fits v[12], v[12]") as caught:
        found(repo, write_adapter(folder / "lora"))
    assert caught.value.kind is ErrorKind.BASE_UNKNOWN
    with pytest.raises(InvalidInputError, match="it fits no base of the repository"):
        found(repo, write_adapter(folder / "deep", layer=7))


def test_what_fits_a_base(models, sign):
    repo, folder = models
    fits(repo, folder / "other", "v1")  # same shapes: the user's word counts
    grown = {**weights(), "score.weight": raw_tensor("BF16", (2, 8))}
    assert fits(repo, write_checkpoint(folder / "grown", grown), "v1").only_ours == ("score.weight",)
    prefixed = fits(repo, write_checkpoint(folder / "names", weights(prefix="net.")), "v1")
    assert prefixed.names == {f"net.{k}": k for k in weights()}
    assert fits(repo, write_adapter(folder / "lora"), "v1") is None


def test_what_does_not_fit_a_base(models, sign):
    repo, folder = models
    shape = {**weights(), "model.layers.0.weight": raw_tensor("BF16", (4, 4))}
    for source in (
        write_checkpoint(folder / "shape", shape),
        write_checkpoint(
            folder / "names", {"a.w": raw_tensor("BF16", (2, 8)), "b.w": raw_tensor("BF16", (3,))}
        ),
        write_checkpoint(folder / "twice", {**weights(prefix="a."), **weights(prefix="b.")}),
        write_adapter(folder / "deep", layer=7),
    ):
        with pytest.raises(InvalidInputError) as caught:
            fits(repo, source, "v1")
        assert caught.value.kind is ErrorKind.INCOMPATIBLE
    commit(repo, str(write_adapter(folder / "lora")), base="v1", draft=Draft("lora", signature=sign()))
    with pytest.raises(InvalidInputError, match="lora is an adapter, not a base"):
        fits(repo, folder / "chat", "lora")


def test_a_fine_tune_that_was_checked_out_and_not_changed_has_its_own_base(models, sign):
    repo, folder = models
    mark(folder / "chat", repo.resolve("chat"))
    base = found(repo, folder / "chat")
    assert (base.name, base.how) == ("v1", "copy")
    again = commit(repo, str(folder / "chat"), draft=Draft("chat", signature=sign()))
    assert again.recorded.unchanged

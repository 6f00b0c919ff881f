"""The very same weights, under whatever names and beside whatever files."""

from __future__ import annotations

from tiny_checkpoints import weights

from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.recording import Draft
from deltavcs.steps.same_weights import is_copy, same_weights, weights_key
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


def test_a_copy_is_told_from_what_is_nearly_one(models):
    repo, folder = models
    v1 = repo.manifest(repo.resolve("v1"))
    few = dict(list(weights().items())[:1])
    for name, tensors, same in (
        ("copy", weights(), True),
        ("wrapped", weights(prefix="module."), True),
        ("tuned", fine_tuned(weights(), seed=3, share=0.1), False),
        ("few", few, False),
        ("more", {**weights(), "again": weights()["model.layers.0.weight"]}, False),
    ):
        with open_checkpoint(write_checkpoint(folder / name, tensors)) as checkpoint:
            assert is_copy(checkpoint, v1) is same, name


def test_the_first_base_stands_for_its_copies(models, sign):
    repo, folder = models
    v2 = repo.manifest(repo.resolve("v2"))
    assert same_weights(repo, v2, adapter=False) == repo.resolve("v2")
    write_checkpoint(folder / "wrapped", weights(50, prefix="module."))
    import_base(repo, str(folder / "wrapped"), draft=Draft(signature=sign()))
    commit(repo, str(folder / "v2"), base="v2", draft=Draft("tuned", signature=sign()))
    for name in ("v2", "wrapped", "tuned"):
        manifest = repo.manifest(repo.resolve(name))
        assert weights_key(manifest) == weights_key(v2)
        assert same_weights(repo, manifest, adapter=False) == repo.resolve("v2")
    assert same_weights(repo, v2, adapter=True) is None


def test_what_a_commit_and_an_import_tell(models, sign):
    repo, folder = models
    again = commit(repo, str(folder / "chat"), draft=Draft("again", signature=sign()))
    assert (again.copy_of, again.base.name, again.base.how) == ("chat", "v1", "copy")
    assert again.changed_share > 0
    base = commit(repo, str(folder / "v1"), draft=Draft("same", signature=sign()))
    assert (base.copy_of, base.base.name, base.changed_share) == ("v1", "v1", 0.0)
    imported = import_base(repo, str(folder / "chat"), draft=Draft("chat-base", signature=sign()))
    assert imported.copy_of == "chat"
    new = commit(repo, str(write_checkpoint(folder / "new", fine_tuned(weights(), seed=3))), base="v1")
    assert new.copy_of is None

"""What may be put on top of a branch."""

from __future__ import annotations

import pytest
from lora_adapters import write_adapter
from tiny_checkpoints import weights

from deltavcs.advice import Advice
from deltavcs.errors import AlreadyExistsError, ErrorKind
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint


@pytest.fixture
def lora(models, sign):
    """`models`, and the branch `lora` with an adapter."""
    repo, folder = models
    commit(repo, str(write_adapter(folder / "lora")), base="v1", draft=Draft("lora", signature=sign()))
    return repo, folder


def on(repo, sign, source, name, *, base=None, force=False):
    return commit(repo, str(source), base=base, draft=Draft(name, signature=sign(), force=force))


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("chat", "v1", "the branch v1 holds a base, and this is a fine-tune"),
        ("chat", "lora", "the branch lora holds an adapter, and this is a fine-tune"),
        ("lora", "chat", "the branch chat holds a fine-tune, and this is an adapter"),
        ("other", "chat", "the branch chat holds a fine-tune of another model: the weights are unrelated"),
    ],
)
def test_a_commit_of_another_kind_or_of_unrelated_weights_is_forced(lora, sign, source, name, said):
    repo, folder = lora
    base = "v2" if source == "other" else "v1"
    with pytest.raises(AlreadyExistsError, match=said) as caught:
        on(repo, sign, folder / source, name, base=base)
    assert (caught.value.kind, caught.value.advice) == (ErrorKind.REF_EXISTS, Advice.OTHER_BRANCH_OR_FORCE)
    before = repo.resolve(name)
    made = on(repo, sign, folder / source, name, base=base, force=True)
    assert made.recorded.commit == repo.resolve(name) != before
    assert repo.resolve(f"{name}~1") == before


def test_a_later_step_needs_no_force(models, sign):
    repo, folder = models
    later = fine_tuned(fine_tuned(weights(0), seed=1), seed=7, scale=0.5)
    assert on(repo, sign, write_checkpoint(folder / "later", later), "chat").base.name == "v1"
    wrapped = {f"module.{k}": t for k, t in fine_tuned(later, seed=8).items()}
    assert on(repo, sign, write_checkpoint(folder / "wrapped", wrapped), "chat").base.name == "v1"
    grown = {**fine_tuned(later, seed=9), "score.weight": raw_tensor("BF16", (2, 8))}
    assert on(repo, sign, write_checkpoint(folder / "grown", grown), "chat").new_tensors == ("score.weight",)


def test_another_architecture_is_told_by_its_tensors(models, sign):
    repo, folder = models
    other = write_checkpoint(
        folder / "net", {"net.w": raw_tensor("BF16", (3, 3)), "net.b": raw_tensor("BF16", (3,))}
    )
    import_base(repo, str(other), draft=Draft("net", signature=sign()))
    with pytest.raises(AlreadyExistsError, match="of another model: 0 of 2 tensors are among its 2"):
        on(repo, sign, other, "chat", base="net")


def test_an_import_onto_other_weights(models, sign):
    repo, folder = models
    with pytest.raises(AlreadyExistsError, match="v1 holds a base of another model"):
        import_base(repo, str(folder / "v2"), draft=Draft("v1", signature=sign()))
    with pytest.raises(AlreadyExistsError, match="chat holds a fine-tune, and this is a base"):
        import_base(repo, str(folder / "v1"), draft=Draft("chat", signature=sign()))
    write_checkpoint(folder / "v1.1", fine_tuned(weights(0), seed=3))
    import_base(repo, str(folder / "v1.1"), draft=Draft("v1", signature=sign()))
    import_base(repo, str(folder / "v2"), draft=Draft("v1", signature=sign(), force=True))
    assert repo.manifest(repo.resolve("v1")).tensors == repo.manifest(repo.resolve("v2")).tensors


def test_what_is_computed_is_checked_as_well(lora, sign):
    repo, _ = lora
    with pytest.raises(AlreadyExistsError, match="v1 holds a base, and this is a transfer"):
        transfer(repo, "chat", "v2", draft=Draft("v1", signature=sign()))
    with pytest.raises(AlreadyExistsError, match="chat holds a fine-tune of another model"):
        transfer(repo, "chat", "v2", draft=Draft("chat", signature=sign()))
    with pytest.raises(AlreadyExistsError, match="lora holds an adapter, and this is a merge"):
        merge(repo, ["chat", "chat"], draft=Draft("lora", signature=sign()))
    with pytest.raises(AlreadyExistsError, match="other holds a fine-tune of another model"):
        merge(repo, ["chat", "v1"], draft=Draft("other", signature=sign()))
    assert merge(repo, ["chat", "v1"], draft=Draft("chat", signature=sign())).recorded is not None
    assert (
        merge(repo, ["chat", "v1"], draft=Draft("other", signature=sign(), force=True)).recorded is not None
    )

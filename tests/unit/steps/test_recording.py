"""Recording: what moves a branch, what does not, and what is left when it goes wrong."""

from __future__ import annotations

import pytest

from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.errors import ConflictError, ErrorKind
from deltavcs.identity import Identity
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.refs import ABSENT, branch_ref
from deltavcs.repo import open_repository
from deltavcs.steps.recording import Draft, MadeAs, recording, tip_of


def packs(repo):
    return sorted(p.name for p in (repo.path / "packs").iterdir())


def again(repo, folder, name, sign, **said):
    """Commit what is in a folder of that name."""
    return commit(repo, str(folder / name), base="v1", draft=Draft("chat", signature=sign(), **said)).recorded


def test_content_that_is_there_already_moves_nothing(models, sign):
    repo, folder = models
    tip, before = tip_of(repo, "chat"), packs(repo)
    found = again(repo, folder, "chat", sign)
    assert found.unchanged
    assert (found.commit, found.stored_bytes) == (tip, 0)
    assert (tip_of(repo, "chat"), packs(repo)) == (tip, before)


@pytest.mark.parametrize("said", [{"message": "why"}, {"task": "piqa"}, {"metadata": {"lr": "1e-5"}}])
def test_what_is_said_anew_is_a_commit(models, sign, said):
    repo, folder = models
    tip = tip_of(repo, "chat")
    found = again(repo, folder, "chat", sign, **said)
    assert not found.unchanged
    assert repo.commit(found.commit).parent_as(Role.PREVIOUS) == tip
    assert again(repo, folder, "chat", sign, **said).unchanged


def test_who_is_second_is_told_and_the_first_commit_stays(models, sign):
    """Another process commits between the reading of the tip and the move of the branch."""
    repo, folder = models
    (folder / "chat" / "notes.txt").write_text("mine")
    with pytest.raises(ConflictError) as caught, recording(repo, "chat") as record:
        with open_checkpoint(folder / "chat") as checkpoint:
            stored = ingest(
                record.transaction,
                checkpoint,
                base=repo.manifest(repo.resolve("v1")),
                previous=record.previous,
                resources=repo.resources,
            )
        other = open_repository(repo.path.parent)
        other.refs.move(branch_ref("chat"), expected=record.tip, new=repo.resolve("v1"), signature=sign())
        record.commit(stored, Draft("chat", signature=sign()), MadeAs(Kind.FINETUNE))
    assert caught.value.kind is ErrorKind.REF_MOVED
    assert tip_of(repo, "chat") == repo.resolve("v1")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_records_nothing(models, error):
    repo, folder = models
    before, refs = packs(repo), repo.refs.all()
    with pytest.raises(type(error)), recording(repo, "new") as record:
        assert (record.tip, record.previous) == (None, None)
        with open_checkpoint(folder / "other") as checkpoint:
            ingest(record.transaction, checkpoint, base=None, previous=None, resources=repo.resources)
        raise error
    assert (packs(repo), repo.refs.all()) == (before, refs)
    assert list((repo.path / "tmp").iterdir()) == []


def test_a_parent_that_was_collected_meanwhile(models, sign, monkeypatch):
    repo, folder = models
    gone = repo.resolve("v1")
    monkeypatch.setattr(type(repo.objects), "has", lambda self, oid: oid != gone)
    (folder / "chat" / "notes.txt").write_text("more")
    tip = tip_of(repo, "chat")
    with pytest.raises(ConflictError, match="was removed meanwhile") as caught:
        again(repo, folder, "chat", sign)
    assert caught.value.kind is ErrorKind.REF_MOVED
    assert tip_of(repo, "chat") == tip


def test_an_interrupt_after_the_move_says_that_the_commit_stays(models, sign, monkeypatch):
    repo, folder = models
    (folder / "chat" / "notes.txt").write_text("more")
    tip = tip_of(repo, "chat")

    def interrupted(repo):
        raise KeyboardInterrupt

    monkeypatch.setattr("deltavcs.steps.recording.catch_up", interrupted)
    with pytest.raises(KeyboardInterrupt, match="chat was already recorded as"):
        again(repo, folder, "chat", sign)
    assert tip_of(repo, "chat") != tip


def test_without_a_signature_the_repository_signs(repo, models):
    _, folder = models
    signing = repo.using(identity=Identity("someone", clock=lambda: 17))
    done = import_base(signing, str(folder / "v1"), draft=Draft("new"))
    value = repo.commit(done.recorded.commit)
    assert (value.author, value.time) == ("someone", 17)
    draft = Draft(message="said").signed(signing, "else")
    assert draft.signature.message == "said"
    assert Draft().signed(signing, "else").signature.message == "else"
    assert draft.signed(repo, "another") is draft


def test_there_is_no_tip_of_a_branch_that_is_not_there(repo):
    assert tip_of(repo, "nothing") is None
    assert repo.refs.get(branch_ref("nothing")) is ABSENT

"""The examples of `docs/api.md`: each runs in the tests, and stands on the page as it stands here."""

from __future__ import annotations

import deltavcs as dv


def at_a_glance() -> None:
    """At a glance."""
    repo = dv.init("models")
    dv.import_base(repo, "llama3.0")
    dv.import_base(repo, "llama3.1")
    dv.commit(repo, "chat", base="llama3.0", draft=dv.Draft(message="instruction tuning"))

    [done] = dv.transfer(repo, "llama3.0", "llama3.1")  # llama3.1 + (chat - llama3.0), in kilobytes
    assert done.name == "llama3.1+chat"

    state = dv.checkout(repo, "llama3.1 + 0.8 * (chat - llama3.0)")  # dict[str, torch.Tensor]
    model = dv.load_model(repo, "llama3.1+chat")
    assert state.keys() == model.state_dict().keys()


def opening() -> None:
    """Opening a repository."""
    repo = dv.open("models")  # this folder's repository, and no other
    assert dv.discover("models/.dvx/packs").path.samefile(repo.path)  # looks in the folders above too

    # Who commits, and what work may use, are settings of the handle.
    repo = dv.open(
        "models",
        identity=dv.Identity(author="Ada <ada@example.org>"),
        resources=dv.Resources(threads=1, memory_bytes=512 << 20),
    )
    assert repo.commit(repo.resolve("chat")).message == "instruction tuning"


def storing() -> None:
    """Storing."""
    repo = dv.open("models")
    made = dv.commit(repo, "code", draft=dv.Draft(task="trivia", metadata={"epochs": "3"}))
    assert (made.base.name, made.base.how) == ("llama3.0", "inferred")  # found from the weights
    assert made.recorded.stored_bytes < made.recorded.raw_bytes

    again = dv.commit(repo, "code", draft=dv.Draft(task="trivia", metadata={"epochs": "3"}))
    assert again.recorded.unchanged  # the branch has this content; nothing was committed


def reading() -> None:
    """Reading."""
    repo = dv.open("models")
    written = dv.checkout_files(repo, "chat", "out")  # byte for byte what was committed
    assert written.n_files == len(dv.show(repo, "chat").files)
    assert dv.status(repo, "out").clean

    half = dv.checkout(repo, "chat", dtype="float16", device="cpu")
    assert {str(tensor.dtype) for tensor in half.values()} == {"torch.float16"}

    tokenizer = dv.load_tokenizer(repo, "chat")
    model = dv.load_model(repo, "chat")
    model(**tokenizer("Question: what is it?", return_tensors="pt"))


def transferring() -> None:
    """Transferring and merging."""
    repo = dv.open("models")
    [plan] = dv.transfer(repo, "code", "llama3.1", scale=0.5, dry_run=True)
    assert plan.recorded is None
    assert plan.geometry["all"].relative_drift > 0  # how far the new base is from the old one

    ties = dv.MergeMethod("ties", {"density": 0.3}, base="llama3.0")
    merged = dv.merge(repo, ["chat", "code"], ties, draft=dv.Draft("both"))
    assert merged.recorded.kind == "merge"
    assert "ties" in dv.MERGE_METHODS


def tasks() -> None:
    """Tasks and ranking."""
    repo = dv.open("models")
    report = dv.add_task(repo, "trivia", "trivia.jsonl")
    assert report.n_rows == 8

    ranking = dv.rank(repo, "trivia", k=2, running=dv.Running(samples=8))
    best, second = ranking.top
    assert best.loss <= second.loss

    start = dv.mashup(repo, "trivia", draft=dv.Draft("trivia-init"), running=dv.Running(samples=8))
    assert [one.name for one in start.chosen] == [one.name for one in start.ranking.top]


def names() -> None:
    """Names."""
    repo = dv.open("models")
    dv.tag(repo, "v1", "chat")
    dv.branch(repo, "experiment", "llama3.0")
    dv.rename_branch(repo, "experiment", "trial")
    assert [ref.name for ref in dv.tags(repo)] == ["v1"]
    assert dv.delete_branch(repo, "trial").commit == repo.resolve("llama3.0")
    assert dv.reflog(repo, "trial")[0].new is None  # the newest move: it was deleted


def history() -> None:
    """History and queries."""
    repo = dv.open("models")
    newest = dv.log(repo, limit=1)[0]
    assert newest.commit == dv.show(repo, newest.short).commit

    up = dv.lineage(repo, "llama3.1+chat")
    assert {edge.role for edge in up.edges} == {"base", "delta", "source"}

    moved = dv.diff(repo, "llama3.0", "chat")
    assert moved.tensors[0].l2 >= moved.tensors[-1].l2  # the largest movers first

    table = dv.sql(repo, "SELECT kind, count(*) AS n FROM log GROUP BY kind ORDER BY kind")
    assert table.columns == ("kind", "n")


def maintenance() -> None:
    """Maintenance."""
    repo = dv.open("models")
    assert dv.fsck(repo, full=True).problems == ()
    assert dv.du(repo).totals.pack_bytes > 0
    removed = dv.gc(repo)
    print(removed)


def values() -> None:
    """Values."""
    import time

    profile = dv.Profile(time.perf_counter)
    repo = dv.open("models", resources=dv.Resources(profile=profile))
    dv.checkout(repo, "chat")
    for stage in profile.rows():
        print(stage.stage, stage.seconds, stage.bytes)


def errors() -> None:
    """Errors."""
    repo = dv.open("models")
    try:
        dv.show(repo, "chta")
    except dv.NotFoundError as error:
        assert error.kind is dv.ErrorKind.UNKNOWN_REVISION
        assert error.facts["similar"] == "chat"

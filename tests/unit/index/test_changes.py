"""After any history the incremental index holds, row for row, what a rebuild holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fake_repository import FakeRepository, dump
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deltavcs.index import IndexOutcome

branches = st.sampled_from(["a", "b", "c"])
contents = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.repo = FakeRepository()
        self.index = self.repo.index(Path(self.folder.name))
        self.n = 0

    def heads(self) -> dict[str, str]:
        return {k: v for k, v in self.repo.refs.refs.items() if k.startswith(("refs/heads/", "refs/tags/"))}

    def pick(self, number: int) -> str | None:
        heads = sorted(self.heads().values())
        return heads[number % len(heads)] if heads else None

    @rule(
        branch=branches, content=contents, others=st.lists(st.integers(0, 9), max_size=2), base=st.booleans()
    )
    def commit(self, branch, content, others, base):
        tip = self.repo.refs.refs.get(f"refs/heads/{branch}")
        parents = [(tip, "previous")] if tip else []
        parents += [(p, "input") for p in map(self.pick, others) if p]
        self.n += 1
        self.repo.commit(
            content, parents, branch=branch, time=self.n, base=self.pick(content) if base else None,
            metadata={"n": str(self.n)}, pack=content % 2 == 0,
        )  # fmt: skip

    @rule(branch=branches)
    def delete_branch(self, branch):
        self.repo.refs.refs.pop(f"refs/heads/{branch}", None)

    @rule(branch=branches, number=st.integers(0, 9))
    def move_branch(self, branch, number):
        if commit := self.pick(number):
            parents = self.repo.objects.commits[commit].parents
            self.repo.refs.refs[f"refs/heads/{branch}"] = parents[0].commit if parents else commit

    @rule(name=st.sampled_from(["v1", "v2"]), number=st.integers(0, 9))
    def tag(self, name, number):
        if commit := self.pick(number):
            self.repo.refs.refs[f"refs/tags/{name}"] = commit

    @rule(name=st.sampled_from(["v1", "v2"]))
    def delete_tag(self, name):
        self.repo.refs.refs.pop(f"refs/tags/{name}", None)

    @rule(number=st.integers(0, 9), task=st.sampled_from(["piqa", "arc"]), loss=st.floats(0, 10))
    def score(self, number, task, loss):
        if commit := self.pick(number):
            self.repo.score(commit, task, loss, loss / 10 if loss > 5 else None)

    @rule()
    def delete_scores(self):
        for ref in [r for r in self.repo.refs.refs if r.startswith("refs/scores/")]:
            del self.repo.refs.refs[ref]

    @rule(number=st.integers(0, 99))
    def drop_a_pack(self, number):
        packs = sorted(self.repo.objects.packs)
        if packs:
            del self.repo.objects.packs[packs[number % len(packs)]]

    @rule()
    def catch_up(self):
        assert self.index.catch_up(packs=True).outcome is not IndexOutcome.SKIPPED

    @rule()
    def compare(self):
        self.index.catch_up(packs=True)
        with tempfile.TemporaryDirectory() as folder:
            other = self.repo.index(Path(folder))
            other.rebuild()
            assert dump(self.index) == dump(other)

    @invariant()
    def refs_are_known(self):
        assert self.index.last.outcome is not IndexOutcome.SKIPPED or self.n == 0 or self.index.last.reason

    def teardown(self):
        self.compare()
        self.folder.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)

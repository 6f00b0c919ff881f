"""Random histories against a model in plain dictionaries: what a name gives back is what was put there."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
from dvx_reader import Reader, narrow, widen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.refs import ABSENT
from deltavcs.repo import init_repository, open_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import (
    RawTensor,
    fine_tuned,
    raw_tensor,
    safetensors_bytes,
    write_checkpoint,
)
from deltavcs.testing.invariants import check_repository

NAMES = st.sampled_from(["a", "b", "c/d", "e"])
TAGS = st.sampled_from(["t1", "t2"])


def digest(tensors):
    return hashlib.sha256(safetensors_bytes(tensors)).hexdigest()


class History(RuleBasedStateMachine):
    """Model: per branch the list of its states, newest last; per commit its tensors and its base."""

    commits = Bundle("commits")

    def __init__(self):
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="dvx-machine-"))
        self.repo = init_repository(self.top, sync=False)
        self.branches: dict[str, list[str]] = {}
        self.tags: dict[str, str] = {}
        self.tensors: dict[str, dict[str, RawTensor]] = {}
        self.base: dict[str, str] = {}
        self.n = 0

    def teardown(self):
        check_repository(self.top)
        reader = Reader(self.repo.path)
        for tip in reader.refs().values():
            data, _ = reader.read_files(tip)["model.safetensors"]
            assert hashlib.sha256(data).hexdigest() == digest(self.tensors[tip])
        shutil.rmtree(self.top)

    def sign(self):
        self.n += 1
        return Signature("machine", self.n)

    def write(self, tensors):
        return str(write_checkpoint(self.top / f"source-{self.n}", tensors))

    def record(self, name, recorded, tensors, base=None):
        oid = recorded.commit
        if recorded.unchanged:
            assert self.branches[name][-1] == oid
        else:
            assert oid not in self.tensors
            self.tensors[oid] = tensors
            if base is not None:
                self.base[oid] = base
            self.branches.setdefault(name, []).append(oid)
        assert digest(self.tensors[oid]) == digest(tensors)
        return oid

    @rule(target=commits, name=NAMES, seed=st.integers(0, 3), dtype=st.sampled_from(["BF16", "F32", "F16"]))
    def import_(self, name, seed, dtype):
        tensors = {"w": raw_tensor(dtype, [32, 16], seed=seed), "n": raw_tensor("I64", [3], seed=seed)}
        done = import_base(
            self.repo, self.write(tensors), draft=Draft(name, signature=self.sign(), force=True)
        )
        return self.record(name, done.recorded, tensors)

    @rule(
        target=commits,
        name=NAMES,
        base=commits,
        seed=st.integers(0, 5),
        share=st.sampled_from([0.0, 0.1, 1.0]),
    )
    def commit(self, name, base, seed, share):
        if base not in self.reachable():
            return multiple()
        tensors = fine_tuned(self.tensors[base], seed=seed, share=share)
        done = commit(
            self.repo, self.write(tensors), base=base, draft=Draft(name, signature=self.sign(), force=True)
        )
        return self.record(name, done.recorded, tensors, base)

    @rule(target=commits, delta=commits, to=commits, scale=st.sampled_from([1.0, 0.5, -2.0]), name=NAMES)
    def transfer(self, delta, to, scale, name):
        alive = self.reachable()
        if delta not in alive or to not in alive or delta not in self.base:
            return multiple()
        t, x, s = self.tensors[to], self.tensors[delta], self.tensors[self.base[delta]]
        dtype = t["w"].dtype
        m_t, m_x, m_s = (widen(m["w"].data, m["w"].dtype) for m in (t, x, s))
        data = narrow(m_t + (m_x - m_s) * scale, dtype)
        expected = {"w": RawTensor(dtype, (32, 16), data), "n": t["n"]}
        (done,) = transfer(
            self.repo, delta, to, scale=scale, draft=Draft(name, signature=self.sign(), force=True)
        )
        return self.record(name, done.recorded, expected, to)

    @rule(tag=TAGS, at=commits)
    def tag(self, tag, at):
        if at in self.reachable():
            ref = f"refs/tags/{tag}"
            self.repo.refs.move(ref, expected=self.tags.get(tag, ABSENT), new=at, signature=self.sign())
            self.tags[tag] = at

    @precondition(lambda self: self.branches)
    @rule(data=st.data())
    def delete_branch(self, data):
        name = data.draw(st.sampled_from(sorted(self.branches)))
        tip = self.branches.pop(name)[-1]
        self.repo.refs.move(f"refs/heads/{name}", expected=tip, new=ABSENT, signature=self.sign())

    @rule(at=consumes(commits))
    def checkout(self, at):
        if at in self.reachable():
            out = self.top / f"out-{self.n}-{at[:8]}"
            checkout_files(self.repo, at, out, force=True)
            data = (out / "model.safetensors").read_bytes()
            assert hashlib.sha256(data).hexdigest() == digest(self.tensors[at])

    @rule()
    def reopen(self):
        self.repo = open_repository(self.top)

    @precondition(lambda self: self.branches)
    @rule(data=st.data())
    def step_back(self, data):
        name = data.draw(st.sampled_from(sorted(self.branches)))
        states = self.branches[name]
        back = data.draw(st.integers(0, len(states) - 1))
        assert self.repo.resolve(f"{name}~{back}") == states[-1 - back]

    def reachable(self):
        found, todo = set(), [*(s[-1] for s in self.branches.values()), *self.tags.values()]
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo += [p.commit for p in self.repo.commit(at).parents]
        return found

    @invariant()
    def refs_are_those_of_the_model(self):
        expected = {f"refs/heads/{n}": s[-1] for n, s in self.branches.items()}
        expected |= {f"refs/tags/{n}": s for n, s in self.tags.items()}
        assert self.repo.refs.all() == expected


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=8, stateful_step_count=14, deadline=None)


def test_the_oracle_is_no_identity():
    values = np.array([1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8])
    assert widen(narrow(values, "BF16"), "BF16").tolist() == [1.0, 1.015625]

"""Candidates of a history: content once, what they were trained on, what makes two one architecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lora_adapters import write_adapter
from tiny_checkpoints import weights

from deltavcs.objects.model import Kind
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.ranking.candidates import Candidate, Unusable, find_candidates
from deltavcs.repo import Repository
from deltavcs.signature import Signature
from deltavcs.steps.naming import tips
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint

CONFIG = json.dumps({"model_type": "toy"}).encode()


class History:
    """Records checkpoints of two tensors and finds what can be ranked."""

    def __init__(self, repo: Repository, folder: Path, sign: Callable[[], Signature]) -> None:
        self.repo, self.folder, self.sign = repo, folder, sign
        write_checkpoint(folder / "base", weights(), files={"config.json": CONFIG})
        import_base(repo, str(folder / "base"), draft=Draft("base", signature=sign()))

    def tune(self, name: str, seed: int, *, on: str | None = None, config: bytes | None = CONFIG) -> None:
        files = {"config.json": config} if config is not None else {}
        source = write_checkpoint(
            self.folder / f"{name}-{seed}", fine_tuned(weights(), seed=seed), files=files
        )
        commit(self.repo, str(source), base="base", draft=Draft(name, task=on, signature=self.sign()))

    def found(self, **options: bool) -> list[Candidate | Unusable]:
        return list(find_candidates(self.repo.objects, tips(self.repo), **options))

    def by_name(self, name: str) -> Candidate:
        (one,) = (c for c in self.found() if c.commit == self.repo.resolve(name))
        assert isinstance(one, Candidate)
        return one


@pytest.fixture
def history(repo: Repository, tmp_path: Path, sign: Callable[[], Signature]) -> History:
    return History(repo, tmp_path, sign)


def test_the_newest_is_first_and_content_is_there_once(history: History) -> None:
    history.tune("a", 1)
    history.tune("b", 2)
    commit(
        history.repo,
        str(history.folder / "a-1"),
        base="base",
        draft=Draft("again", signature=history.sign()),
    )
    wanted = [history.repo.resolve(name) for name in ("again", "b", "base")]
    assert [one.commit for one in history.found()] == wanted


def test_earlier_checkpoints_of_a_branch_can_be_left_out(history: History) -> None:
    history.tune("a", 1)
    history.tune("a", 2)
    assert history.repo.resolve("a~1") in [one.commit for one in history.found()]
    assert history.repo.resolve("a~1") not in [one.commit for one in history.found(last_only=True)]


def test_a_merge_was_trained_on_what_its_inputs_were(history: History) -> None:
    history.tune("a", 1, on="piqa")
    history.tune("b", 2, on="arc")
    merge(history.repo, ["a", "b"], draft=Draft("m", signature=history.sign()))
    assert history.by_name("base").trained_on == frozenset()
    assert history.by_name("a").trained_on == {"piqa"}
    assert history.by_name("m").trained_on == {"piqa", "arc"}


def test_an_earlier_checkpoint_of_the_branch_says_nothing_of_tasks(history: History) -> None:
    history.tune("a", 1, on="piqa")
    history.tune("a", 2, on="arc")
    assert history.by_name("a").trained_on == {"arc"}


def test_settings_that_no_forward_pass_depends_on_share_a_model(history: History) -> None:
    history.tune("a", 1)
    history.tune("cosmetic", 2, config=json.dumps({"model_type": "toy", "use_cache": False}).encode())
    history.tune("rotary", 3, config=json.dumps({"model_type": "toy", "rope_theta": 7}).encode())
    a, cosmetic, rotary = (history.by_name(name) for name in ("a", "cosmetic", "rotary"))
    assert cosmetic.model_key == a.model_key
    assert rotary.model_key != a.model_key
    assert {c.group for c in (cosmetic, rotary)} == {a.group}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "it has no config.json, so its architecture is not known"),
        (b"{", "its config.json is malformed"),
        (b"[]", "its config.json is no object"),
    ],
)
def test_what_cannot_run_is_told_and_stops_nothing(history: History, config: bytes | None, why: str) -> None:
    history.tune("odd", 1, config=config)
    history.tune("fine", 2)
    unusable = [one for one in history.found() if isinstance(one, Unusable)]
    assert unusable == [Unusable(history.repo.resolve("odd"), why)]
    assert history.by_name("fine").kind is Kind.FINETUNE


def test_adapters_go_together_by_rank_and_alpha(history: History) -> None:
    settings = {"l1": (1, 2, 4), "l2": (2, 2, 4), "rank": (3, 1, 4), "alpha": (4, 2, 8)}
    for name, (seed, rank, alpha) in settings.items():
        source = write_adapter(history.folder / name, seed=seed, rank=rank, alpha=alpha)
        commit(history.repo, str(source), base="base", draft=Draft(name, signature=history.sign()))
    l1, l2, rank_1, alpha_8 = (history.by_name(name) for name in settings)
    assert l1.is_adapter
    assert l1.below == history.repo.commit(history.repo.resolve("base")).manifest
    assert l1.group == l2.group
    assert len({l1.group, rank_1.group, alpha_8.group}) == 3

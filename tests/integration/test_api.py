"""`import deltavcs as dv` as a product: names, defaults, what a prompt shows, and errors."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import deltavcs as dv
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

ADA = "Ada <ada@example.org>"
ROOT = Path(dv.__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, a fine-tune of it, and an author."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVX_AUTHOR", ADA)
    base = {f"layers.{i}.weight": raw_tensor("BF16", (32, 16), seed=i) for i in range(12)}
    write_checkpoint(tmp_path / "base", base, files={"config.json": b"{}"})
    write_checkpoint(tmp_path / "chat", fine_tuned(base, seed=1), files={"config.json": b"{}"})
    return tmp_path


@pytest.fixture
def models(folder: Path) -> dv.Repository:
    repo = dv.init(folder / "models", sync=False)
    dv.import_base(repo, "base")
    dv.commit(repo, "chat", base="base")
    return repo


class TestNames:
    def test_each_resolves_and_is_listed(self) -> None:
        assert set(dir(dv)) == {*dv._HOMES, "__version__"}
        for name in dv._HOMES:
            assert getattr(dv, name) is not None

    def test_every_verb_is_public(self) -> None:
        """A public function of a module of porcelain is a name of the package."""
        found = set()
        for path in (ROOT / "porcelain").glob("*.py"):
            module = importlib.import_module(f"deltavcs.porcelain.{path.stem}")
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    takes_repo = node.args.args and node.args.args[0].arg == "repo"
                    if takes_repo and vars(module)[node.name].__module__ == module.__name__:
                        found.add(node.name)
        assert {"branch", "tag", "status", "du", "gc", "fsck", "reflog", "task"} <= found
        assert found <= set(dir(dv))

    def test_type_checkers_see_the_same_names(self) -> None:
        tree = ast.parse(Path(dv.__file__).read_text())
        [guarded] = [n for n in tree.body if isinstance(n, ast.If)]
        seen = {}
        for node in guarded.body:
            if isinstance(node, ast.ImportFrom):
                module = str(node.module).removeprefix("deltavcs.")
                seen.update({alias.name: module for alias in node.names})
        homes = {}
        for name, home in dv._HOMES.items():
            module, _, attribute = home.partition(":")
            homes[attribute or name] = module
        assert seen == homes

    def test_what_is_no_name_is_told(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'comit'"):
            dv.comit

    def test_the_version_is_that_of_the_package(self) -> None:
        assert dv.__version__ == importlib.metadata.version("deltavcs")


class TestOpening:
    def test_open_means_exactly_that_path(self, models: dv.Repository, folder: Path) -> None:
        below = folder / "models/below"
        below.mkdir()
        assert dv.open(folder / "models").path == dv.open(folder / "models/.dvx").path == models.path
        with pytest.raises(dv.NotFoundError) as caught:
            dv.open(below)
        assert caught.value.kind is dv.ErrorKind.NO_REPOSITORY
        assert str(below) in str(caught.value)

    def test_discover_looks_in_the_folders_above_too(self, models: dv.Repository, folder: Path) -> None:
        below = folder / "models/below/deep"
        below.mkdir(parents=True)
        assert dv.discover(below).path == models.path
        with pytest.raises(dv.NotFoundError) as caught:
            dv.discover(folder)
        assert caught.value.kind is dv.ErrorKind.NO_REPOSITORY


class TestWhoCommits:
    def test_the_environment_says_it_as_for_the_command_line(self, models: dv.Repository) -> None:
        assert dv.show(models, "chat").author == ADA
        shown = dv.reflog(models, "chat")[0]
        assert (shown.author, shown.message) == (ADA, "commit chat")

    def test_without_it_git_does(
        self, models: dv.Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "home").mkdir()
        (folder / "home/.gitconfig").write_text("[user]\n name = Bob\n email = bob@example.org\n")
        for name in ("DVX_AUTHOR", "XDG_CONFIG_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(folder / "home"))
        dv.commit(models, "chat", base="base", draft=dv.Draft("other"))
        assert dv.show(models, "other").author == "Bob <bob@example.org>"

    def test_an_identity_or_a_signature_goes_before(self, models: dv.Repository) -> None:
        known = models.using(identity=dv.Identity("Eve", clock=lambda: 5))
        dv.commit(known, "chat", base="base", draft=dv.Draft("one"))
        signed = dv.Draft("two", signature=dv.Signature("Dan", 7, "why"))
        dv.commit(known, "chat", base="base", draft=signed)
        one, two = dv.show(models, "one"), dv.show(models, "two")
        assert (one.author, one.time, two.author, two.time) == ("Eve", 5, "Dan", 7)
        assert dv.reflog(models, "two")[0].message == "why"


def values(repo: dv.Repository) -> Iterator[Any]:
    """What someone at a prompt meets."""
    yield from (repo, repo.resources, repo.identity, dv.Draft("x"), dv.Running(), dv.Selection())
    yield from (dv.Profile(), dv.MERGE_METHODS["ties"])
    yield from (dv.Training("train {init} {out}", Path("work")), dv.MergeMethod())
    yield from (repo.manifest(repo.resolve("chat")), repo.commit(repo.resolve("chat")))
    yield from (dv.commit(repo, "chat", base="base"), dv.import_base(repo, "base"))
    yield from (dv.show(repo, "chat"), dv.diff(repo, "base", "chat"), dv.lineage(repo, "chat"))
    yield from (dv.log(repo)[0], dv.ls(repo)[0], dv.ls_revision(repo, "chat"), dv.reflog(repo)[0])
    yield from (dv.du(repo), dv.fsck(repo), dv.plan_gc(repo), dv.status(repo, "chat"))
    yield from (dv.sql(repo, "SELECT * FROM log"), dv.rank_deltas(repo, "base"))
    yield from dv.transfer(repo, "chat", "base", dry_run=True)
    yield dv.merge(repo, ["base", "chat"], draft=dv.Draft("both"), dry_run=True)
    yield dv.checkout_files(repo, "chat", "out")


class TestAtAPrompt:
    def test_everything_is_one_short_line(self, models: dv.Repository) -> None:
        for value in values(models):
            shown = repr(value)
            assert shown.startswith(type(value).__name__ + "(")
            assert len(shown) < 450, shown
            assert "\n" not in shown
            assert " at 0x" not in shown
            assert not re.search(r"[0-9a-f]{64}", shown)

    def test_a_commit_tells_what_was_made(self, models: dv.Repository) -> None:
        shown = repr(dv.commit(models, "chat", base="base"))
        assert "name='chat', kind='finetune'" in shown
        assert "unchanged=True" in shown

    def test_a_repository_is_its_path(self, models: dv.Repository) -> None:
        assert repr(models) == f"Repository({str(models.path)!r})"

    def test_results_cannot_be_changed(self, models: dv.Repository) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            dv.show(models, "chat").message = "other"  # type: ignore[misc]


class TestErrors:
    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:x"])
    def test_a_bad_device(self, models: dv.Repository, device: str) -> None:
        with pytest.raises(dv.InvalidInputError) as caught:
            dv.checkout(models, "chat", device=device)
        assert caught.value.kind is dv.ErrorKind.BAD_ARGUMENT

    @pytest.mark.parametrize("device", ["gpu", "cuda:99"])
    def test_a_bad_device_for_a_model(
        self, models: dv.Repository, device: str, make_model: Any, tokenizer: Any
    ) -> None:
        make_model().save_pretrained("whole")
        tokenizer.save_pretrained("whole")
        dv.import_base(models, "whole")
        with pytest.raises(dv.InvalidInputError) as caught:
            dv.load_model(models, "whole", device=device)
        assert caught.value.kind is dv.ErrorKind.BAD_ARGUMENT

    @pytest.mark.parametrize(
        ("package", "call"),
        [
            ("torch", "dv.checkout(repo, 'chat')"),
            ("torch", "dv.load_model(repo, 'chat')"),
            ("transformers", "dv.load_model(repo, 'chat')"),
            ("transformers", "dv.load_tokenizer(repo, 'chat')"),
            ("huggingface_hub", "dv.import_base(repo, 'hf://org/name')"),
            ("torch", "dv.rank(repo, 'rows', k=1)"),
            ("transformers", "dv.rank(repo, 'rows', k=1)"),
        ],
    )
    def test_a_missing_package(self, models: dv.Repository, package: str, call: str) -> None:
        Path("rows.jsonl").write_text('{"question": "q", "choices": ["a", "b"], "label": 0}\n')
        dv.add_task(models, "rows", "rows.jsonl")
        code = f"""
import sys
sys.modules[{package!r}] = None
import deltavcs as dv
repo = dv.open("models")
try:
    {call}
except dv.MissingDependencyError as error:
    print(error.kind, error.facts["package"])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == f"missing-package {package}\n", done.stderr

    def test_an_error_is_caught_by_its_category_or_as_python_has_it(self, models: dv.Repository) -> None:
        with pytest.raises(KeyError):
            dv.show(models, "nobody")
        with pytest.raises(ValueError, match="direction"):
            dv.lineage(models, "chat", direction="sideways")
        with pytest.raises(dv.DeltaVCSError):
            dv.open("nowhere")


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, deltavcs; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "duckdb", "numpy", "transformers", "huggingface_hub"} & set(done.stdout.split())

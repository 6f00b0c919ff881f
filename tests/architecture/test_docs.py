"""What the documentation says and a program can check.

Links, paths and names exist; commands are commands of today; the main walk-through runs as written; Python
blocks compile, import what exists and call it as it can be called.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from markdown_pages import PAGES, ROOT, Block, anchors, blocks, commands, links, page_name, spans
from safetensors.numpy import save_file

from dvx.app import cli

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in BLOCKS if any(True for _ in commands(block))]
PYTHON = [b for b in BLOCKS if b.language == "python" and page_name(b.page) != "docs/api.md"]
"""Without the page of signatures: what makes it runs its examples."""

# Pages whose commands are run as they stand, from the first to the last, each page in a folder of its own.
RUN_AS_WRITTEN = ["README.md", "docs/guide.md"]

# The checkpoints that those pages speak of, and how far from the first the tiny ones are that stand for them.
STAND_INS = {
    "Llama-3.0-8B": 0.0,
    "Llama-3.1-8B": 0.05,
    "Llama-3.0-8B-Instruct": 0.01,
    "Llama-3.0-8B-Code": 0.02,
}

# The commands of those pages that are not run, with the reason.
NOT_RUN = {
    "rank --task": "runs real models on rows from the Hub",
    "mashup --task": "ranks first, as above",
}

# What looks like a module and is none.
ELSEWHERE = {"storage.zstd_level"}  # a key of config.toml

# Options of other programs, and what decision 10 says is gone.
FOREIGN_OPTIONS = {"--only", "--help", "--version", "--format"}


# Links, paths, names.


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{link}: there is no {target}"
        if anchor:
            assert anchor in anchors(there), f"{link}: {there.name} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_and_modules_exist(page: Path) -> None:
    words = [word for span in spans(page) for word in span.split()]
    missing = [word for word in words if _is_path(word) and not _path_exists(word)]
    missing += [span for span in spans(page) if _is_module(span) and not _can_be_imported(span)]
    assert not missing


def _is_path(text: str) -> bool:
    in_a_folder = re.fullmatch(r"(deltavcs|cli|tests|docs|benchmarks|migrations)/[\w./-]*", text)
    named = re.fullmatch(r"[\w-]+(/[\w.-]+)+\.(py|c|h|inc|sh|sql)", text)
    return bool(in_a_folder or named)


def _path_exists(text: str) -> bool:
    return any((top / text).exists() for top in (ROOT, ROOT / "deltavcs", ROOT / "cli/dvx"))


ROOMS = {path.parent.name for path in (ROOT / "deltavcs").glob("*/__init__.py")}


def _is_module(text: str) -> bool:
    """True for `deltavcs.room.module`, and for `room.module`, as the page of the house writes."""
    if text in ELSEWHERE or not re.fullmatch(r"[a-z]\w*(\.\w+)+", text):
        return False
    first = text.split(".")[0]
    return first in ("deltavcs", "dvx") or first in ROOMS


def _can_be_imported(text: str) -> bool:
    names = text.split(".") if text.startswith(("deltavcs.", "dvx.")) else ["deltavcs", *text.split(".")]
    found: object = importlib.import_module(names[0])
    for i, name in enumerate(names[1:], 1):
        if importlib.util.find_spec(".".join(names[:i])) is not None and _is_file_of(names[: i + 1]):
            found = importlib.import_module(".".join(names[: i + 1]))
        elif hasattr(found, name):
            found = getattr(found, name)
        else:
            return False
    return True


def _is_file_of(names: list[str]) -> bool:
    try:
        return importlib.util.find_spec(".".join(names)) is not None
    except ModuleNotFoundError:
        return False


# Commands.


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_are_those_of_today(block: Block) -> None:
    for words in commands(block):
        _parse(words)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    for span in spans(page):
        words = span.split()
        if words[0] == "dvx" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            command = cli.get_command(click.Context(cli), words[1])
            assert command is not None, span
            _check_options([w for w in words[2:] if w.startswith("--")], _options(command), span)
        elif words[0].startswith("--"):
            _check_options(words[:1], ALL_OPTIONS, span)


def _check_options(used: list[str], known: set[str], where: str) -> None:
    unknown = {option.partition("=")[0] for option in used} - known - FOREIGN_OPTIONS
    assert not unknown, where


def _options(command: click.Command) -> set[str]:
    own = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*(_options(c) for c in below))


ALL_OPTIONS = set().union(
    *(_options(cli.get_command(click.Context(cli), n)) for n in cli.list_commands(None))
)


def _parse(words: list[str]) -> None:
    """Parse a command line as `dvx` would, and do not run it."""
    with cli.make_context("dvx", [*words]) as context:
        command, parent, rest = cli, context, [*context._protected_args, *context.args]
        while isinstance(command, click.Group):
            name, found, rest = command.resolve_command(parent, rest)
            assert found is not None
            command, parent = found, found.make_context(name, rest, parent=parent)
            rest = [*parent._protected_args, *parent.args]


@pytest.mark.parametrize("name", RUN_AS_WRITTEN)
def test_a_page_runs_as_written(name: str, folder: Path) -> None:
    for block in (b for b in BLOCKS if page_name(b.page) == name):
        for words in commands(block):
            line = " ".join(words)
            if any(line.startswith(start) for start in NOT_RUN):
                continue
            done = CliRunner().invoke(cli, words)
            assert done.exit_code == 0, f"{block}: dvx {line}\n{done.output}"
        if block.language == "python" and name == "docs/guide.md":
            exec(compile(block.text, str(block), "exec"), {})
    assert (folder / ".dvx").is_dir(), f"{name} has no commands"


def test_the_guide_shows_the_main_job() -> None:
    shown = {words[0] for b in BLOCKS if page_name(b.page) == "docs/guide.md" for words in commands(b)}
    assert shown >= {
        *("init", "import", "commit", "checkout", "status", "transfer", "merge"),
        *("log", "show", "lineage", "diff", "du", "sql", "gc", "fsck"),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tiny checkpoint for each that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVX_AUTHOR", "Ada")
    for i, (name, distance) in enumerate(STAND_INS.items()):
        (tmp_path / name).mkdir()
        rows, noise = np.random.default_rng(0), np.random.default_rng(i)
        weights = {
            key: (rows.standard_normal(shape) + distance * noise.standard_normal(shape)).astype(np.float32)
            for key, shape in {
                "model.embed_tokens.weight": (32, 8),
                "model.layers.0.mlp.weight": (16, 8),
            }.items()
        }
        save_file(weights, tmp_path / name / "model.safetensors", {"format": "pt"})
        (tmp_path / name / "config.json").write_text('{"model_type": "llama", "vocab_size": 32}')
    _write_lora(tmp_path / "lora")
    return tmp_path


def _write_lora(folder: Path) -> None:
    folder.mkdir()
    module = "base_model.model.model.layers.0.mlp"
    factors = {"A": np.ones((2, 8), np.float32), "B": np.ones((16, 2), np.float32)}
    named = {f"{module}.lora_{side}.weight": values for side, values in factors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')


# Python.


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_imports_and_calls_what_is_there(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(tree, str(block), "exec")
    known: dict[str, object] = {}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), str(block), "exec"), known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _named(node, known)  # raises if the module has no such name
        if isinstance(node, ast.Call):
            _check_call(node, _named(node.func, known), block)


def _named(node: ast.expr, known: dict[str, object]) -> object:
    """What an imported name, or an attribute of an imported module, is; None for anything else."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (inspect.ismodule(of := _named(node.value, known))):
        return getattr(of, node.attr)
    return None


def _check_call(node: ast.Call, called: object, block: Block) -> None:
    if not callable(called) or any(isinstance(a, ast.Starred) for a in node.args):
        return
    try:
        signature = inspect.signature(called)
    except ValueError:  # of C
        return
    try:
        signature.bind(*node.args, **{k.arg: k.value for k in node.keywords if k.arg is not None})
    except TypeError as exc:
        raise AssertionError(f"{block}, line {node.lineno}: {ast.unparse(node.func)}: {exc}") from exc

"""Help and reference: complete, current, and true."""

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dvx.app import SECTIONS, Command, Dvx, Group, cli

ROOT = Path(__file__).parents[2]


def commands():
    ctx = click.Context(cli, info_name="dvx")
    found = {}
    for name in cli.list_commands(ctx):
        one = cli.get_command(ctx, name)
        found[name] = one
        if isinstance(one, Group):
            found.update({f"{name} {n}": c for n, c in one.commands.items()})
    return found


COMMANDS = commands()


def test_the_reference_is_current():
    done = subprocess.run(
        [sys.executable, "docs/gen_cli.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_complete(name, dvx):
    one = COMMANDS[name]
    text = dvx(*name.split(), "--help").stdout
    assert len(one.get_short_help_str(200)) <= 72
    assert "Examples:" in text
    assert one.examples
    for line, _ in one.examples:
        assert line.startswith("dvx ")
    if isinstance(one, Command):
        assert "Exit status:" in text
        assert "--json" in text
    for parameter in one.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name):
    """Every example is a command line that this version understands."""
    for line, _ in COMMANDS[name].examples:
        words = shlex.split(line.partition(" | ")[0].partition(" < ")[0])
        assert words[0] == "dvx"
        parse(cli, words[1:])


def parse(one, words):
    ctx = one.make_context("dvx", list(words))
    if isinstance(one, Dvx | Group):
        name, found, rest = one.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
        assert found is not None, name
        parse(found, rest)


def test_the_sections_name_real_commands():
    listed = [n for names in SECTIONS.values() for n in names]
    assert len(listed) == len(set(listed))


def test_the_top_help_fits(dvx):
    text = dvx("--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    for name in COMMANDS:
        assert f"  {name.split()[0]} " in text


def test_version(dvx):
    assert dvx("--version").stdout.startswith("dvx 0.")


def test_suggestions(folder, dvx):
    assert "Did you mean 'dvx checkout'?" in dvx("chekout", code=2).stderr
    assert "Did you mean 'dvx import'?" in dvx("add", code=2).stderr
    assert "Did you mean 'dvx index rebuild'?" in dvx("index", "rebild", code=2).stderr


def test_completion(repo, process):
    import os

    def complete(words, at):
        env = {**os.environ, "_DVX_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return [line.partition(",")[2] for line in process(env=env).stdout.splitlines()]

    assert complete("dvx che", 1) == ["checkout"]
    assert complete("dvx show v", 2) == ["v1", "v2", "v2+chat"]
    assert complete("dvx transfer --from ch", 3) == ["chat"]

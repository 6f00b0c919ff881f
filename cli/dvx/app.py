"""The command line as a whole: commands found by file, common options, help, exit statuses.

A command is a function in a file of its own:

    @command(examples=[("dvx show chat", "the tip of the branch chat")], statuses=(INTEGRITY,))
    @click.argument("revision", type=REVISION)
    def show(session: Session, revision: str) -> None:
        '''Show one commit in full.'''
        shown = dv.show(session.repository(), revision)       # `import deltavcs as dv`: loaded when used
        session.emit(lambda: {"commit": shown}, _lines(shown))

It prints through `session.emit` alone and lets errors fly: `Dvx.run` turns them into lines and codes.
"""

from __future__ import annotations

import importlib
import keyword
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from dvx import commands, exits
from dvx.failures import Usage, handle
from dvx.session import Session

Example = tuple[str, str]

# How `dvx --help` orders the commands; those not named here come last.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Put checkpoints in": ("init", "import", "commit"),
    "Make new ones from them": ("transfer", "merge", "mashup", "recycle"),
    "Get them out": ("checkout",),
    "Look at history": ("log", "show", "diff", "lineage", "ls", "status", "sql"),
    "Evaluate": ("task", "rank", "connectivity"),
    "Name commits": ("branch", "tag", "reflog"),
    "Care for the repository": ("du", "fsck", "gc", "index", "doctor"),
}

# What people type who come from elsewhere.
_MEANT = {
    "add": "import", "clone": "init", "co": "checkout", "restore": "checkout", "history": "log",
    "list": "ls", "cat": "show", "check": "fsck", "verify": "fsck", "prune": "gc", "stats": "du",
    "blame": "lineage", "query": "sql", "apply": "transfer",
}  # fmt: skip


class _Help:
    """Help with examples and exit statuses, in widths that a terminal shows."""

    examples: Sequence[Example] = ()
    statuses: Sequence[int] = ()

    def write_tail(self, formatter: click.HelpFormatter) -> None:
        """The sections after the options."""
        if self.examples:
            with formatter.section("Examples"):
                wide = max(len(line) for line, _ in self.examples)
                room = formatter.width - formatter.current_indent
                beside = all(wide + len("  # ") + len(what) <= room for _, what in self.examples)
                for line, what in self.examples:
                    indent = " " * formatter.current_indent
                    if what and not beside:
                        formatter.write(f"{indent}# {what}\n")
                    formatter.write(f"{indent}{f'{line:<{wide}}  # {what}' if what and beside else line}\n")
        if self.statuses:
            with formatter.section("Exit status"):
                formatter.write_dl([(str(code), exits.MEANINGS[code]) for code in self.statuses])


class Command(click.Command, _Help):
    """A command with common options, examples and exit statuses."""

    def __init__(self, *args: Any, examples: Sequence[Example], statuses: Sequence[int], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples, self.statuses = examples, statuses

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples and exit statuses."""
        self.write_tail(formatter)


class _Suggesting(click.Group):
    """A group that knows what a mistyped command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of `args`, or say which one is near."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            import difflib

            names = self.list_commands(ctx)
            near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
            if not near and _MEANT.get(name) in names:
                near = [_MEANT[name]]
            meant = " or ".join(f"'{ctx.command_path} {n}'" for n in near)
            hint = f"Did you mean {meant}?" if near else None
            raise Usage(f"there is no command {name!r}", hint=hint, ctx=ctx)
        return super().resolve_command(ctx, args)


class Group(_Suggesting, _Help):
    """A command of commands, such as `dvx index`."""

    def __init__(self, *args: Any, examples: Sequence[Example], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        self.write_tail(formatter)


class Dvx(_Suggesting, _Help):
    """The top: finds commands by their files, and ends every failure well."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        files = (p.stem for p in Path(commands.__path__[0]).glob("[!_]*.py"))
        return sorted(f.removesuffix("_").replace("_", "-") for f in files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of a command, if there is one."""
        if not cmd_name.replace("-", "").isalnum() or cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_") + ("_" if keyword.iskeyword(cmd_name) else "")
        found = getattr(importlib.import_module(f"dvx.commands.{name}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands by what one wants to do."""
        rest = self.list_commands(ctx)
        for title, names in SECTIONS.items():
            present = [n for n in names if n in rest]
            rest = [n for n in rest if n not in present]
            self._write_commands(ctx, formatter, title, present)
        self._write_commands(ctx, formatter, "More", rest)

    def _write_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter, title: str, names: Sequence[str]
    ) -> None:
        found = [(n, c) for n in names if (c := self.get_command(ctx, n)) is not None]
        if found:
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(200).removesuffix(".")) for n, c in found])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first steps."""
        self.write_tail(formatter)

    def run(self, args: Sequence[str], **extra: Any) -> int:
        """Run one command line; every failure is reported, and its exit code returned."""
        as_json = "--json" in args
        try:
            with self.make_context("dvx", list(args), **extra) as ctx:
                self.invoke(ctx)
                ctx.ensure_object(Session).warn_of_broken_refs()
            sys.stdout.flush()
        except BaseException as error:
            return handle(error, as_json=as_json)
        return exits.OK

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        """As click's, for its test runner and for completion; exits with `run`'s code."""
        for known in ("prog_name", "standalone_mode", "windows_expand_args"):
            extra.pop(known, None)
        sys.exit(self.run(sys.argv[1:] if args is None else args, **extra))

    def complete(self) -> None:
        """Answer a shell that asks for completions, and exit; else do nothing."""
        self._main_shell_completion({}, "dvx", "_DVX_COMPLETE")


def command(
    *,
    examples: Sequence[Example],
    statuses: Sequence[int] = (),
    in_repository: bool = True,
) -> Callable[[Callable[..., None]], Command]:
    """Make a command of a function whose first argument is the `Session`.

    The docstring is the help: a line that sums it up, then paragraphs.

    Args:
        examples: command lines and what they do, for the help.
        statuses: exit statuses beside 0, 1, 2 and, in a repository, 10.
        in_repository: the command has `--repo`.
    """

    def decorate(function: Callable[..., None]) -> Command:
        general = [exits.OK, exits.ERROR, exits.USAGE] + ([exits.NO_REPOSITORY] if in_repository else [])
        made = click.command(
            name=function.__name__.removesuffix("_").replace("_", "-"),
            cls=Command,
            examples=tuple(examples),
            statuses=tuple(sorted({*general, *statuses})),
            context_settings={"max_content_width": 100},
        )(click.pass_obj(function))
        made.params += _common(in_repository=in_repository)
        return made

    return decorate


def group(*, examples: Sequence[Example]) -> Callable[[Callable[..., None]], Group]:
    """Make a command of commands; add them with `add_command`."""

    def decorate(function: Callable[..., None]) -> Group:
        made = click.group(
            name=function.__name__.removesuffix("_"),
            cls=Group,
            examples=tuple(examples),
            no_args_is_help=True,
        )(function)
        made.params += _common(in_repository=True)
        return made

    return decorate


def stored(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps an option's value in the session instead of passing it on."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(ctx.ensure_object(Session), attribute, value)

    return callback


def _common(*, in_repository: bool) -> list[click.Parameter]:
    as_json = click.Option(
        ["--json", "_json"],
        is_flag=True,
        expose_value=False,
        callback=stored("json"),
        help="Print one JSON document, errors included.",
    )
    repo = click.Option(
        ["--repo", "_repo"],
        metavar="DIR",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=stored("repo"),
        help="The repository; by default DVX_REPO, else the one of this directory or above it.",
    )
    return [repo, as_json] if in_repository else [as_json]


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dvx {version('deltavcs')}")
        ctx.exit()


@click.group(
    cls=Dvx,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Git for weights: base models, diff vectors, and every checkpoint back bit for bit.

    A repository keeps bases, fine-tunes and what is made of them, remembers where each came from, and
    carries a fine-tune over to a new base. 'dvx COMMAND --help' explains a command.
    """
    ctx.ensure_object(Session)


cli.params += _common(in_repository=True)
cli.examples = (
    ("dvx init", ""),
    ("dvx import ./Llama-3.0-8B --as llama3.0", ""),
    ("dvx import ./Llama-3.1-8B --as llama3.1", ""),
    ('dvx commit ./Llama-3.0-8B-Instruct --base llama3.0 -m "instruction tuning"', ""),
    ("dvx transfer --from llama3.0 --to llama3.1", ""),
    ("dvx checkout llama3.1+Llama-3.0-8B-Instruct -o ./out", ""),
)

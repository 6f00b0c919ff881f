"""Write `docs/cli.md` from the `--help` of every command: `python docs/gen_cli.py [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from deltavcs import errors
from dvx import exits
from dvx.app import SECTIONS, Command, Group, cli

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 96

_TOP = """# The command line

<!-- Written by docs/gen_cli.py; do not edit. -->

Every command takes `--json`: one JSON document on stdout, with `snake_case` keys, times in ISO 8601
(UTC), full ids, and numbers as they were measured. `--repo DIR` or `DVX_REPO` names the repository;
without them it is found upwards from the current directory, as in Git.

Results go to stdout; progress, notes and errors to stderr. Colours and the progress bar appear on a
terminal only; `NO_COLOR` turns colours off. In a pipe, tables are not clipped.

| variable | meaning |
|---|---|
| `DVX_REPO` | the repository, as `--repo` |
| `DVX_AUTHOR` | who commits; by default Git's `user.name` and `user.email`, else the login name |
| `DVX_MEMORY`, `DVX_THREADS` | as `--memory` and `--threads` |
| `DVX_DEBUG` | `1` shows the traceback of any error |
| `NO_COLOR`, `FORCE_COLOR` | no colours; colours in a pipe too |

Completion of commands and names: `eval "$(_DVX_COMPLETE=bash_source dvx)"` in `~/.bashrc`, or
`zsh_source`, `fish_source`.
"""

_EXITS = """
## Exit statuses

Kinds are what `--json` reports in `error.kind`, and `DeltaVCSError.kind` in Python. They never change
their meaning; new ones may come.

| status | meaning | kinds |
|---|---|---|
"""

_RECORD = """
Under `--json` an error is a record on stderr, and stdout stays empty:

```json
{"error": {"kind": "unknown-revision", "message": "unknown revision 'chta'", "hint": "Did you mean chat?",
 "exit_code": 1}}
```

Without it, it is a line `error: …`, mostly with a line `hint: …`. 130 is Ctrl-C, 143 SIGTERM, 141 a
reader that went away, as in `dvx log | head`.

## Errors in Python

The classes say what a handler would do, the kinds what happened.

| class | also | meaning |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [_TOP, *_commands(), _EXITS, *_statuses(), _RECORD, *_classes()]
    return "".join(parts)


def commands() -> dict[str, click.Command]:
    """Every command by its full name, in the order of the help; commands of commands after their group."""
    ctx = click.Context(cli, info_name="dvx")
    names = cli.list_commands(ctx)
    ordered = [n for section in SECTIONS.values() for n in section if n in names]
    found: dict[str, click.Command] = {}
    for name in [*ordered, *(n for n in names if n not in ordered)]:
        one = cli.get_command(ctx, name)
        assert isinstance(one, Command | Group)
        found[name] = one
        if isinstance(one, Group):
            found.update({f"{name} {n}": c for n, c in sorted(one.commands.items())})
    return found


def _commands() -> Iterator[str]:
    yield "\n```text\n" + _help("dvx", cli) + "\n```\n"
    for name, one in commands().items():
        yield f"\n## dvx {name}\n\n```text\n{_help(f'dvx {name}', one)}\n```\n"


def _help(name: str, one: click.Command) -> str:
    settings = {**one.context_settings, "max_content_width": _WIDTH, "terminal_width": _WIDTH}
    settings.setdefault("help_option_names", ["-h", "--help"])
    ctx = click.Context(one, info_name=name, **settings)
    return "\n".join(line.rstrip() for line in one.get_help(ctx).splitlines())


def _statuses() -> Iterator[str]:
    for code, meaning in exits.MEANINGS.items():
        kinds = ", ".join(f"`{kind}`" for kind in errors.ErrorKind if exits.code_of(kind) == code)
        yield f"| {code} | {meaning} | {kinds} |\n"


def _classes() -> Iterator[str]:
    for one in errors.DeltaVCSError.__subclasses__():
        also = ", ".join(f"`{b.__name__}`" for b in one.__bases__ if b is not errors.DeltaVCSError)
        meaning = (one.__doc__ or "").splitlines()[0]
        yield f"| `{one.__name__}` | {also} | {meaning} |\n"


def main() -> int:
    """Write the page; with `--check` only say whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.is_file() and PAGE.read_text() == text:
            return 0
        sys.stderr.write(f"{PAGE} is out of date; run: python docs/gen_cli.py\n")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

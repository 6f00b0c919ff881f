"""Options and argument types that several commands share."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dvx.app import stored
from dvx.session import Session

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*([hdw])\Z")
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
_LEAST_MEMORY = 64 << 20


def dequantized(function: F) -> F:
    """Add `--dequantize`."""
    added = click.option(
        "--dequantize",
        is_flag=True,
        help="Take the weights that 8-bit floats with scales stand for, e.g. of block-scaled fp8.",
    )
    return added(function)


class Revision(click.ParamType[str]):
    """A branch, tag, id prefix or `name~2`; the shell completes branches and tags."""

    name = "revision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Any text; what it names is the library's to say."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin with what was typed; none where there is no repository."""
        try:
            refs = ctx.ensure_object(Session).repository().refs.all()
        except Exception:  # the shell has no use for an error
            return []
        names = {r.split("/", 2)[2] for r in refs if r.startswith(("refs/heads/", "refs/tags/"))}
        return [CompletionItem(n) for n in sorted(names) if n.startswith(incomplete)]


class Bytes(click.ParamType[int]):
    """A number of bytes: `512M`, `2GiB`, `1.5g`; units are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it, and refuse what is too little to work with."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write 512M or 2GiB", param, ctx)
        n_bytes = int(float(match[1]) * 2 ** _UNITS[match[2].lower()])
        if n_bytes < _LEAST_MEMORY:
            self.fail(f"{value} is too little; 64M is the least", param, ctx)
        return n_bytes


class KeyValue(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value!r} must look like KEY=VALUE", param, ctx)
        return key, text


class Factor(click.ParamType[float]):
    """A finite number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it, and refuse `nan` and `inf`."""
        try:
            found = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not finite", param, ctx)
        return found


class Age(click.ParamType[float]):
    """How long ago, in days: `now`, `3d`, `12h`, `2w`."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it; gives days."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        if text == "now":
            return 0.0
        match = _AGE.match(text)
        if match is None:
            self.fail(f"{value!r} is not an age; write 3d, 12h, 2w or now", param, ctx)
        return float(match[1]) * _DAYS[match[2]]


AGE = Age()
FACTOR = Factor()
REVISION = Revision()
BYTES = Bytes()
KEY_VALUE = KeyValue()


def works(function: F) -> F:
    """Add `--memory`, `--threads` and `--quiet`: for commands that work on weights."""
    for option in (
        click.option(
            "-q", "--quiet", "_quiet", is_flag=True, expose_value=False, callback=stored("quiet"),
            help="Print nothing but errors.",
        ),
        click.option(
            "--threads", "_threads", type=click.IntRange(1, 1024), metavar="N", expose_value=False,
            callback=stored("threads"), envvar="DVX_THREADS", help="Worker threads; by default one per core.",
        ),
        click.option(
            "--memory", "_memory", type=BYTES, metavar="SIZE", expose_value=False, callback=stored("memory"),
            envvar="DVX_MEMORY", help="Memory for buffers, such as 512M; by default 2GiB.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def profiled(function: F) -> F:
    """Add `--profile`: where the time goes, by stage."""
    return click.option(
        "--profile", "_profile", is_flag=True, expose_value=False, callback=stored("profile"),
        help="Show where the time went, by stage: seconds of all threads together, GB/s of one.",
    )(function)  # fmt: skip


def bounded(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    """A callback: a number that every counter holds. Nothing has as many lines."""
    return None if value is None else min(value, sys.maxsize)


def limit(default: int | None = None) -> Callable[[F], F]:
    """Add `-n N`."""
    return click.option(
        "-n", "limit", type=click.IntRange(min=1), default=default, metavar="N", callback=bounded,
        show_default=default is not None, help="At most N.",
    )  # fmt: skip


def message(function: F) -> F:
    """Add `-m/--message`."""
    return click.option("-m", "--message", default="", help="What it is, for the history.")(function)


def metadata(function: F) -> F:
    """Add `--meta KEY=VALUE`, repeatable."""
    return click.option(
        "--meta",
        "metadata",
        type=KEY_VALUE,
        multiple=True,
        metavar="K=V",
        callback=_each_once,
        help="Keep a fact with it; repeatable.",
    )(function)


def _each_once(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    seen: set[str] = set()
    for key, _ in value:
        if key in seen:
            raise click.BadParameter(f"{key!r} is given twice", ctx, param)
        seen.add(key)
    return value


def name(function: F) -> F:
    """Add `--as NAME`."""
    option = click.option("--as", "name", metavar="NAME", help="The branch; by default that of the source.")
    return option(function)


def intake(function: F) -> F:
    """Add `--include`, `--exclude` and `--allow-incomplete`: which files of a source are taken."""
    for option in (
        click.option("--allow-incomplete", is_flag=True, help="Take it though some weights are missing."),
        click.option(
            "--exclude", multiple=True, metavar="GLOB",
            help="Leave files out, as a line of .gitignore does; repeatable.",
        ),
        click.option(
            "--include", multiple=True, metavar="GLOB",
            help="Take files that would be left out; repeatable.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function

"""Errors as people and scripts see them: `error:` and `hint:` lines, or a JSON record, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import traceback
from dataclasses import dataclass

import click

from deltavcs import DeltaVCSError, ErrorKind
from dvx import exits, signals
from dvx.hints import hint_of
from dvx.terminal import say
from dvx.text import plain

_OUT_OF_DISK = (errno.ENOSPC, errno.EDQUOT)


class Usage(click.UsageError):
    """A malformed command line, with a hint of its own."""

    def __init__(self, message: str, *, hint: str | None = None, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told about an error."""

    kind: str
    message: str
    hint: str | None
    exit_code: int


def handle(error: BaseException, *, as_json: bool) -> int:
    """Report whatever a command raised; returns the exit code."""
    if signals.received() is not None or isinstance(error, KeyboardInterrupt):
        return signals.report(
            as_json=as_json, detail=str(error) if isinstance(error, KeyboardInterrupt) else ""
        )
    if isinstance(error, BrokenPipeError):
        return _broken_pipe()
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else exits.ERROR
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return exits.USAGE
    failure = describe(error)
    if os.environ.get("DVX_DEBUG", "0") not in ("", "0") and not isinstance(error, click.ClickException):
        traceback.print_exception(error)
    _print(failure, as_json=as_json)
    return failure.exit_code


def describe(error: BaseException) -> Failure:
    """Kind, message, hint and exit code of an error."""
    if isinstance(error, DeltaVCSError) and error.kind is not ErrorKind.BUG:
        return Failure(str(error.kind), error.message, hint_of(error), exits.code_of(error.kind))
    if isinstance(error, click.UsageError):
        return Failure("usage", _sentence(error), _usage_hint(error), exits.USAGE)
    if isinstance(error, click.ClickException):
        return Failure("usage", _sentence(error), None, error.exit_code)
    if isinstance(error, OSError):
        return _from_os(error)
    if isinstance(error, MemoryError):
        return Failure(
            "out-of-memory",
            "out of memory",
            "Give it less to hold at once: --memory 512MiB, --threads 1.",
            exits.ERROR,
        )
    if isinstance(error, RecursionError):
        return Failure("limit-exceeded", "the input is nested too deeply", None, exits.ERROR)
    what = error.message if isinstance(error, DeltaVCSError) else f"{type(error).__name__}: {error}"
    return Failure(
        "bug",
        f"{' '.join(what.split())} (this is a bug)",
        "Run it again with DVX_DEBUG=1 for the traceback, and report it with that.",
        exits.ERROR,
    )


def _print(failure: Failure, *, as_json: bool) -> None:
    if as_json:
        record = {
            "kind": failure.kind,
            "message": failure.message,
            "hint": failure.hint,
            "exit_code": failure.exit_code,
        }
        lines = [json.dumps({"error": record})]
    else:
        lines = (click.style("error:", fg="red", bold=True) + f" {plain(failure.message)}").split("\n")
        if failure.hint:
            lines += (click.style("hint:", fg="cyan") + f" {plain(failure.hint)}").split("\n")
    with contextlib.suppress(OSError):
        for line in lines:
            if as_json:
                click.echo(line, err=True)
            else:
                say(line, sys.stderr)


def _from_os(error: OSError) -> Failure:
    where = f"{error.filename}: " if error.filename else ""
    kind = ErrorKind.IO
    if error.errno in _OUT_OF_DISK:
        kind = ErrorKind.DISK_FULL
    elif isinstance(error, PermissionError):
        kind = ErrorKind.PERMISSION_DENIED
    elif isinstance(error, NotADirectoryError | FileNotFoundError | IsADirectoryError | FileExistsError):
        kind = ErrorKind.BAD_PATH
    message = f"{where}{(error.strerror or str(error) or type(error).__name__)}"
    return Failure(str(kind), message, None, exits.code_of(kind))


def _broken_pipe() -> int:
    # The reader is gone, as with `dvx log | head`. Without this the interpreter complains at its exit.
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            os.dup2(devnull, stream.fileno())
    return exits.BROKEN_PIPE


def _sentence(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).removesuffix(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _usage_hint(error: click.UsageError) -> str:
    hint = getattr(error, "hint", None)
    path = error.ctx.command_path if error.ctx is not None else "dvx"
    return hint or f"See '{path} --help'."

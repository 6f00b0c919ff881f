"""The error tree: categories named by what a handler would do, kinds that pin the precise failure.

```
DeltaVCSError
├── NotFoundError (KeyError)
├── AlreadyExistsError
├── InvalidInputError (ValueError)
├── ConflictError
├── IntegrityError
├── FormatError
├── StorageError                 .retryable
├── MissingDependencyError (ImportError)
└── InternalError
```

A missing delta base is an `IntegrityError`, never a `NotFoundError`: a broken repository must not be
swallowed by a handler that expects something to be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from deltavcs.advice import Advice


class ErrorKind(StrEnum):
    """What went wrong, precisely. Append only: scripts match on these values."""

    NO_REPOSITORY = "no-repository"
    UNKNOWN_REVISION = "unknown-revision"
    UNKNOWN_OBJECT = "unknown-object"
    UNKNOWN_REF = "unknown-ref"
    UNKNOWN_SOURCE = "unknown-source"
    UNKNOWN_TENSOR = "unknown-tensor"
    REPOSITORY_EXISTS = "repository-exists"
    REF_EXISTS = "ref-exists"
    OUTPUT_NOT_EMPTY = "output-not-empty"
    BAD_REF_NAME = "bad-ref-name"
    BAD_REVISION = "bad-revision"
    AMBIGUOUS_REVISION = "ambiguous-revision"
    BAD_EXPRESSION = "bad-expression"
    BAD_ARGUMENT = "bad-argument"
    BAD_CHECKPOINT = "bad-checkpoint"
    BAD_PATH = "bad-path"
    BAD_SQL = "bad-sql"
    BAD_TASK = "bad-task"
    BASE_UNKNOWN = "base-unknown"
    AMBIGUOUS_DELTA = "ambiguous-delta"
    INCOMPATIBLE = "incompatible"
    PICKLE_REFUSED = "pickle-refused"
    LIMIT_EXCEEDED = "limit-exceeded"
    REF_MOVED = "ref-moved"
    LOCKED = "locked"
    SOURCE_CHANGED = "source-changed"
    HASH_MISMATCH = "hash-mismatch"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    MISSING_OBJECT = "missing-object"
    MISSING_BASE = "missing-base"
    DELTA_CYCLE = "delta-cycle"
    BAD_HEADER = "bad-header"
    BAD_OBJECT = "bad-object"
    BAD_PAYLOAD = "bad-payload"
    UNSUPPORTED_VERSION = "unsupported-version"
    UNSUPPORTED_FEATURE = "unsupported-feature"
    UNSUPPORTED_DTYPE = "unsupported-dtype"
    DISK_FULL = "disk-full"
    PERMISSION_DENIED = "permission-denied"
    IO = "io"
    REMOTE = "remote"
    MISSING_PACKAGE = "missing-package"
    COMMAND_FAILED = "command-failed"
    BUG = "bug"
    QUANTISED = "quantised"


class DeltaVCSError(Exception):
    """Base of every error this library raises on purpose.

    Attributes:
        kind: the precise failure; stable across releases.
        advice: what would help, where the kind alone does not say it. The words are the caller's: the command
            line has them in `dvx.hints`.
        facts: what the words of an advice may name, such as the revision that was asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        advice: Advice | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.advice = advice
        self.facts = dict(facts or {})

    def within(self, where: str) -> Self:
        """Put where it happened before the message, and return the same error."""
        self.message = f"{where}: {self.message}"
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # An error of a worker process comes back pickled.
        return _restore, (type(self), self.message, self.__dict__)

    def __str__(self) -> str:
        # KeyError would print the repr of its argument.
        return self.message


class NotFoundError(DeltaVCSError, KeyError):
    """What was named does not exist: repository, revision, ref, object, source."""


class AlreadyExistsError(DeltaVCSError):
    """What was to be created exists: repository, ref, output."""


class InvalidInputError(DeltaVCSError, ValueError):
    """The input cannot be used as given; another input can."""


class ConflictError(DeltaVCSError):
    """Someone else changed or holds it; reading again and retrying can succeed."""


class IntegrityError(DeltaVCSError):
    """Stored data is damaged or incomplete."""


class FormatError(DeltaVCSError):
    """Bytes that do not follow the format, or follow one this version does not know."""


class StorageError(DeltaVCSError):
    """The disk or the network failed.

    Attributes:
        retryable: True if the same call may succeed later without any change.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        advice: Advice | None = None,
        facts: Mapping[str, str] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, kind=kind, advice=advice, facts=facts)
        self.retryable = retryable


class MissingDependencyError(DeltaVCSError, ImportError):
    """A package is not installed; the fact `package` names it."""


class InternalError(DeltaVCSError):
    """An invariant of this library broke. Please report it."""


def reason_of(exc: BaseException) -> str:
    """The first line of what a foreign error says, or its class; whole pages may follow.

    A first line that ends in a colon says what failed; the next one says why.
    """
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines else type(exc).__name__


def _restore(cls: type[DeltaVCSError], message: str, state: dict[str, Any]) -> DeltaVCSError:
    error = cls.__new__(cls, message)
    error.__dict__.update(state)
    return error

"""Settings of one repository and the format it declares (spec §1)."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass

from deltavcs.errors import ErrorKind, FormatError, InvalidInputError

FORMAT_VERSION = 1
READABLE_VERSIONS = (1,)
OBJECT_HASH = "blake3-256"
READ_FEATURES: frozenset[str] = frozenset()
WRITE_FEATURES: frozenset[str] = frozenset()
MAX_SETTINGS_BYTES = 64 << 10
CACHEDIR_TAG_KEY = "index/CACHEDIR.TAG"
CACHEDIR_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# The lineage index, derived from the repository; it may be deleted.\n"
)


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a repository.

    Attributes:
        zstd_level: level of the zstd stages, 1 to 19.
    """

    zstd_level: int = 3


@dataclass(frozen=True, slots=True)
class Format:
    """What the repository's `format` file allows this version to do."""

    version: int
    writable: bool
    unknown_write_features: tuple[str, ...] = ()


def encode_format() -> bytes:
    """The `format` file of a new repository."""
    value = {"features": {"read": [], "write": []}, "format": FORMAT_VERSION, "object_hash": OBJECT_HASH}
    return (json.dumps(value, sort_keys=True) + "\n").encode()


def decode_format(data: bytes) -> Format:
    """Read a `format` file.

    Raises:
        FormatError: `unsupported-version`, `unsupported-feature`, or `bad-header` for anything else.
    """
    try:
        raw = json.loads(data)
        version, hash_name = raw["format"], raw["object_hash"]
        read, write = set(raw["features"]["read"]), set(raw["features"]["write"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise FormatError("the repository's format file is malformed", kind=ErrorKind.BAD_HEADER) from exc
    if version not in READABLE_VERSIONS or hash_name != OBJECT_HASH:
        raise FormatError(
            f"the repository has format {version} with {hash_name}; this version reads"
            f" {', '.join(map(str, READABLE_VERSIONS))} with {OBJECT_HASH}",
            kind=ErrorKind.UNSUPPORTED_VERSION,
        )
    unknown = sorted(map(str, read - READ_FEATURES))
    if unknown:
        raise FormatError(
            f"the repository uses features this version cannot read: {', '.join(unknown)}",
            kind=ErrorKind.UNSUPPORTED_FEATURE,
        )
    blocked = tuple(sorted(map(str, write - WRITE_FEATURES)))
    return Format(version=version, writable=not blocked, unknown_write_features=blocked)


def encode_config(config: Config) -> bytes:
    """The `config.toml` of a new repository."""
    return f"[storage]\nzstd_level = {config.zstd_level}\n".encode()


def decode_config(data: bytes) -> Config:
    """Read `config.toml`.

    Raises:
        InvalidInputError: `bad-argument` for malformed TOML, an unknown key or a value out of range.
    """
    try:
        raw = tomllib.loads(data.decode())
    except ValueError as exc:
        raise InvalidInputError(f"config.toml: {exc}", kind=ErrorKind.BAD_ARGUMENT) from exc
    storage = raw.pop("storage", {})
    if not isinstance(storage, dict):
        raise InvalidInputError("config.toml: storage must be a table", kind=ErrorKind.BAD_ARGUMENT)
    level = storage.pop("zstd_level", Config().zstd_level)
    if raw or storage:
        unknown = next(iter([*raw, *(f"storage.{k}" for k in storage)]))
        raise InvalidInputError(f"config.toml: unknown setting {unknown}", kind=ErrorKind.BAD_ARGUMENT)
    if not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= 19:
        raise InvalidInputError(
            f"config.toml: storage.zstd_level must be 1 to 19, not {level!r}", kind=ErrorKind.BAD_ARGUMENT
        )
    return Config(zstd_level=level)

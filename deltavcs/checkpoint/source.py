"""Reading a checkpoint from disk: a directory in Hugging Face layout or one safetensors file."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.checkpoint.arrangement import Arrangement, Overlaid, arrange
from deltavcs.checkpoint.intake import Cause, Intake, LeftOut
from deltavcs.checkpoint.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    MAX_JSON_BYTES,
    holds_tokenizer,
    is_other_format,
    is_pickle,
    is_safetensors,
)
from deltavcs.checkpoint.survey import OutsideLink, Survey, survey_file, survey_folder
from deltavcs.errors import ConflictError, ErrorKind, FormatError, InvalidInputError, NotFoundError
from deltavcs.objects.incoming import FileRange
from deltavcs.storage import FileReader, translate_os_errors
from deltavcs.tensors.safetensors import header_length, parse_header

Stamp = tuple[int, int, int]
_ASKED = (Cause.EXCLUDED, Cause.IGNORED)


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor on disk."""

    dtype: str
    shape: tuple[int, ...]
    data: FileRange


@dataclass(frozen=True, slots=True)
class LazyFile:
    """A file that is opened for each read: a directory may hold more files than may be open."""

    path: Path
    size: int

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill `out`. Raises IntegrityError if the file has become shorter."""
        with FileReader(self.path) as file:
            file.read_into(start, out)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file on disk; `header` and `keys` only for safetensors."""

    path: str
    location: Path
    size: int
    executable: bool
    stamp: Stamp
    header: bytes | None = None
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to say of a source that was read.

    Attributes:
        left_out: files and folders that are not committed.
        links: that were followed out of the source.
        beside: files of weights that are kept and are not the checkpoint's own.
        unnamed: own tensors that the index does not name; transformers reads whole shards, and so do we.
        overlaid: own tensors that are in several shards.
        unindexed: own shards without an index, which transformers does not load.
        incomplete: what is not all there, where that was asked for.
        unmatched: patterns that matched nothing.
        whole_files: nothing in it is safetensors, and all is kept as files.
    """

    left_out: tuple[LeftOut, ...] = ()
    links: tuple[OutsideLink, ...] = ()
    beside: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    overlaid: tuple[Overlaid, ...] = ()
    unindexed: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    whole_files: bool = False

    __repr__ = brief


@dataclass(slots=True)
class SourceCheckpoint:
    """A checkpoint on disk, open for reading.

    Attributes:
        files: sorted by path.
        tensors: by manifest key.
        findings: what there is to say of it.
        incomplete: it is taken though not all is there.
    """

    root: Path
    files: list[SourceFile] = field(default_factory=list)
    tensors: dict[str, SourceTensor] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    incomplete: bool = False

    @property
    def is_kept_as_files(self) -> bool:
        """True for what has no tensors and is worth keeping: a model in another format, a tokenizer.

        A model's configuration without weights is none of these, unless an incomplete one was asked for.
        """
        if self.tensors or not self.files:
            return False
        paths = [f.path for f in self.files]
        if self.incomplete or any(map(is_other_format, paths)):
            return True
        return holds_tokenizer(paths) and not {CONFIG, ADAPTER_CONFIG} & set(paths)

    @property
    def is_adapter(self) -> bool:
        """True for a PEFT adapter."""
        paths = {f.path for f in self.files}
        return ADAPTER_CONFIG in paths and ADAPTER_WEIGHTS in paths

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def read_small(self, path: str) -> bytes | None:
        """Content of a small file such as config.json; None if it is not there.

        Raises:
            FormatError: `limit-exceeded` over 64 MiB.
        """
        found = next((f for f in self.files if f.path == path and f.header is None), None)
        if found is None:
            return None
        if found.size > MAX_JSON_BYTES:
            raise FormatError(f"{path} has {found.size} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
        with FileReader(found.location) as file:
            return bytes(file.read(0, found.size))

    def check_unchanged(self) -> None:
        """Prove that no file was written to since it was opened.

        Raises:
            ConflictError: `source-changed`, naming the file.
        """
        for file in self.files:
            try:
                now = _stamp(file.location)
            except OSError:
                now = None
            if now != file.stamp:
                raise ConflictError(
                    f"{file.location} changed while it was read",
                    kind=ErrorKind.SOURCE_CHANGED,
                )


@contextlib.contextmanager
def open_checkpoint(source: Path, intake: Intake | None = None) -> Iterator[SourceCheckpoint]:
    """Open a directory or one `.safetensors` file.

    Raises:
        NotFoundError: `unknown-source`.
        FormatError: a malformed or lying header, an unsafe path.
        InvalidInputError: `bad-checkpoint` if shards or tensors are missing, a tensor stands there twice, or
            a file of weights cannot be read.
    """
    intake = intake or Intake()
    with open_survey(survey_source(source, intake), intake) as checkpoint:
        yield checkpoint


def survey_source(source: Path, intake: Intake) -> Survey:
    """Which files of a directory are taken; a file is taken as it is. Raises as `open_checkpoint` does."""
    if not source.exists():
        raise NotFoundError(f"{source} does not exist", kind=ErrorKind.UNKNOWN_SOURCE)
    if source.is_dir():
        return survey_folder(source, intake)
    if not source.is_file():
        raise InvalidInputError(
            f"{source} is neither a directory nor a regular file", kind=ErrorKind.BAD_CHECKPOINT
        )
    return survey_file(source)


@contextlib.contextmanager
def open_survey(survey: Survey, intake: Intake) -> Iterator[SourceCheckpoint]:
    """Open the files of a survey. Raises as `open_checkpoint` does."""
    with contextlib.ExitStack() as stack:
        opened = {path: _open_file(stack, path, at) for path, at in sorted(survey.files.items())}
        names = {path: [s.name for s in found.spans] for path, found in opened.items() if found.header}
        try:
            made = arrange(names, survey.files.keys(), lambda path: read_small_file(survey.files[path]))
        except InvalidInputError as exc:
            raise exc.within(str(survey.root)) from exc.__cause__
        if made.problems and not intake.incomplete:
            raise incomplete(survey, made.problems[0])
        checkpoint = SourceCheckpoint(survey.root, incomplete=intake.incomplete)
        for path, found in opened.items():
            keys = None if found.header is None else tuple(made.keys[path, s.name] for s in found.spans)
            for key, span in zip(keys or (), found.spans, strict=True):
                checkpoint.tensors[key] = SourceTensor(span.dtype, span.shape, span.data)
            checkpoint.files.append(found.as_file(path, keys))
        checkpoint.findings = _findings(survey, made, whole_files=not checkpoint.tensors)
        yield checkpoint


def incomplete(survey: Survey, problem: str) -> InvalidInputError:
    """The error for weights that are not all there."""
    by_pattern = [x.path for x in survey.left_out if x.holds_weights and x.cause in _ASKED]
    why = f" ({by_pattern[0]} is left out by a pattern)" if by_pattern else ""
    return InvalidInputError(
        f"{survey.root} is incomplete: {problem}{why}",
        kind=ErrorKind.BAD_CHECKPOINT,
        advice=Advice.FINISH_DOWNLOAD,
    )


def _findings(survey: Survey, made: Arrangement, *, whole_files: bool) -> Findings:
    beside = (p for p in survey.files if p not in made.own and (is_safetensors(p) or is_pickle(p)))
    return Findings(
        left_out=tuple(survey.left_out),
        links=tuple(survey.links),
        beside=() if whole_files else tuple(sorted(beside)),
        unnamed=made.unnamed,
        overlaid=made.overlaid,
        unindexed=made.unindexed,
        incomplete=made.problems,
        unmatched=survey.unmatched,
        whole_files=whole_files,
    )


def read_small_file(location: Path) -> bytes:
    """Content of a file of at most 64 MiB. Raises FormatError: `limit-exceeded`."""
    with FileReader(location) as file:
        if file.size > MAX_JSON_BYTES:
            raise FormatError(f"{location} has {file.size} bytes", kind=ErrorKind.LIMIT_EXCEEDED)
        return bytes(file.read(0, file.size))


def _stamp(location: Path) -> Stamp:
    found = location.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True, slots=True)
class _Span:
    """A tensor of a file, by its own name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: FileRange


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file with what its header says, if it is safetensors."""

    location: Path
    stamp: Stamp
    executable: bool
    header: bytes | None = None
    spans: tuple[_Span, ...] = ()

    def as_file(self, path: str, keys: tuple[str, ...] | None) -> SourceFile:
        return SourceFile(path, self.location, self.stamp[0], self.executable, self.stamp, self.header, keys)


def _open_file(stack: contextlib.ExitStack, path: str, location: Path) -> _Opened:
    with translate_os_errors(f"cannot read {location}"):
        stamp = _stamp(location)
        executable = bool(location.stat().st_mode & stat.S_IXUSR)
    if not is_safetensors(path):
        return _Opened(location, stamp, executable)
    file = stack.enter_context(FileReader(location))
    try:
        header, spans = _read_header(file)
    except (FormatError, InvalidInputError) as exc:
        raise exc.within(str(location)) from exc.__cause__
    return _Opened(location, stamp, executable, header, spans)


def _read_header(file: FileReader) -> tuple[bytes, tuple[_Span, ...]]:
    length = header_length(file.read(0, min(8, file.size)), file.size)
    data = bytes(file.read(0, 8 + length))
    header = parse_header(data[8:], file.size)
    return data, tuple(
        _Span(s.name, s.dtype, s.shape, FileRange(file, header.n_bytes + s.begin, s.end - s.begin))
        for s in header.spans
    )

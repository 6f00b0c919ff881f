"""Files: ranges that are read, room that is reserved."""

from __future__ import annotations

import errno
import os

import pytest

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, IntegrityError, NotFoundError
from deltavcs.storage import FileReader
from deltavcs.storage.file_calls import os_error, reserve


def test_reading_past_the_end_is_truncation_not_a_crash(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(100))
    with FileReader(path) as file:
        assert file.read(90, 10) == bytes(10)
        for start, size in ((91, 10), (-1, 5), (0, -1), (1 << 60, 1)):
            with pytest.raises(IntegrityError):
                file.read(start, size)
        path.write_bytes(b"")
        with pytest.raises(IntegrityError) as caught:
            file.read(0, 100)
        assert caught.value.kind is ErrorKind.TRUNCATED


def test_room_is_found_before_the_first_write(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        reserve(file.fileno(), 3_000_000)
        found = os.fstat(file.fileno())
        # After a power failure, a file of full length would look whole.
        assert found.st_size == 0
        if not found.st_blocks:
            pytest.skip("this system cannot reserve room")
        assert 512 * found.st_blocks >= 3_000_000


def test_room_that_cannot_be_reserved_is_not_missed(tmp_path):
    reading, writing = os.pipe()
    reserve(writing, 4096)
    os.close(reading)
    os.close(writing)
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:  # not open for writing: the write will tell
        reserve(file.fileno(), 4096)
    for arguments in ((-1, 4096), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match="fit"):
            reserve(*arguments)


def test_room_that_no_disk_has_is_told_at_once(tmp_path):
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=r"large|space"):
        reserve(file.fileno(), 1 << 62)


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, ErrorKind.DISK_FULL, None),
        (errno.EDQUOT, ErrorKind.DISK_FULL, Advice.FREE_QUOTA),
        (errno.EFBIG, ErrorKind.DISK_FULL, Advice.RAISE_FILE_LIMIT),
        (errno.EACCES, ErrorKind.PERMISSION_DENIED, None),
        (errno.EROFS, ErrorKind.PERMISSION_DENIED, None),
        (errno.EIO, ErrorKind.IO, None),
    ],
)
def test_what_the_system_says_becomes_an_error_of_its_kind(number, kind, advice):
    error = os_error("cannot write x", OSError(number, os.strerror(number)))
    assert (error.kind, error.advice) == (kind, advice)
    assert error.message == f"cannot write x: {os.strerror(number)}"


def test_a_file_that_is_not_there_is_not_found():
    assert isinstance(os_error("cannot read x", FileNotFoundError(2, "none")), NotFoundError)

"""Small objects as files: whatever is wrong with one is noticed before it costs memory."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hostile_objects import FRAMES, ZERO

from deltavcs.errors import ErrorKind, FormatError, IntegrityError
from deltavcs.objects.small import unframe_object


def test_every_flipped_byte_of_a_small_object(world):
    oid = world.resolve("a")
    good = (world.path / "objects" / oid[:2] / oid[2:]).read_bytes()
    right = unframe_object(oid, good)
    for at in range(len(good)):
        for bit in (0, 3, 7):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            with contextlib.suppress(IntegrityError, FormatError):
                assert unframe_object(oid, bytes(bad)) == right
    for cut in range(len(good)):
        with pytest.raises(IntegrityError):
            unframe_object(oid, good[:cut])


@pytest.mark.parametrize("name", FRAMES)
def test_hostile_frames(name):
    data, kind = FRAMES[name]
    tracemalloc.start()
    with pytest.raises(FormatError if kind is ErrorKind.UNSUPPORTED_VERSION else IntegrityError) as caught:
        unframe_object(ZERO, data)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert caught.value.kind is kind

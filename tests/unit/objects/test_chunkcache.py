"""Kept chunks: those used last, up to a number of bytes."""

import numpy as np

from deltavcs.objects.chunkcache import ChunkCache
from deltavcs.resources import Resources

MIB = 1 << 20


def chunk(n_bytes):
    return np.zeros(n_bytes, np.uint8)


def test_what_was_not_used_for_longest_goes_first():
    cache = ChunkCache()
    cache.prepare(Resources(threads=1, memory_bytes=0))  # 8 MiB
    for i in range(8):
        cache.put(("a", i), chunk(MIB))
    assert cache.get(("a", 0)) is not None
    cache.put(("b", 0), chunk(MIB))
    assert ("a", 0) in cache and ("a", 1) not in cache and ("a", 2) in cache
    assert cache.get(("a", 1)) is None


def test_the_first_of_two_chunks_stays():
    """Two threads may decode the same one at once."""
    cache = ChunkCache()
    first = chunk(10)
    cache.put(("a", 0), first)
    cache.put(("a", 0), chunk(10))
    assert cache.get(("a", 0)) is first


def test_one_chunk_is_kept_whatever_its_size():
    cache = ChunkCache()
    for i in range(2):
        cache.put(("a", i), chunk(9 * MIB))
    assert ("a", 0) not in cache and ("a", 1) in cache


def test_the_budget_grows_with_threads_and_memory():
    cache = ChunkCache()
    for resources, kept in (
        (Resources(threads=2, memory_bytes=0), 16),
        (Resources(threads=1, memory_bytes=512 * MIB), 32),
    ):
        cache.prepare(resources)
        for i in range(40):
            cache.put(("a", i), chunk(MIB))
        assert sum(("a", i) in cache for i in range(40)) == kept
        for i in range(40):
            cache.put(("b", i), chunk(MIB))

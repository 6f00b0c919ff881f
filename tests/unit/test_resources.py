"""What an operation may use: memory per thread, spans in flight, seconds by stage."""

import threading

from deltavcs.resources import SPAN_BYTES, Profile, Resources, Scratch


def test_scratch_is_one_buffer_per_thread():
    scratch = Scratch()
    first = scratch.take(100)
    first[:] = bytes(100)
    assert scratch.take(50).obj is first.obj
    assert len(scratch.take(200)) == 200
    other = []
    thread = threading.Thread(target=lambda: other.append(scratch.take(10).obj))
    thread.start()
    thread.join()
    assert other[0] is not scratch.take(10).obj


def test_the_window_follows_threads_and_memory():
    assert Resources(threads=3).window == 12
    assert Resources(threads=3, memory_bytes=SPAN_BYTES * 8 * 5).window == 5
    assert Resources(threads=3, memory_bytes=0).window == 1


def test_a_profile_sums_stages_in_the_order_of_their_first_end():
    ticks = iter(range(100))
    profile = Profile(lambda: float(next(ticks)))
    with profile.stage("outer", 10), profile.stage("inner"):
        pass
    profile.add("outer", 2.0, 5)
    rows = [(row.stage, row.seconds, row.bytes) for row in profile.rows()]
    assert rows == [("inner", 1.0, 0), ("outer", 5.0, 15)]
    assert [row.gb_per_s for row in profile.rows()] == [None, 15 / 5.0 / 1e9]


def test_without_a_timer_nothing_is_measured():
    profile = Profile()
    with profile.stage("read", 10):
        profile.add("write", 1.0, 1)
    assert profile.rows() == []

"""Tables of frequencies, and the side that holds them."""

import numpy as np
import pytest

from deltavcs.codec.api import MAX_SIDE_BYTES
from deltavcs.codec.frequency_tables import Tables, normalise, read_side, write_side
from deltavcs.errors import FormatError


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_frequencies_sum_to_2048(spread: float) -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(1e5 * np.exp(-np.arange(64) / spread), (17, 64))
    counts[3] = 0
    freqs = normalise(counts, np.arange(64) // 4 + 2)
    assert (freqs.sum(axis=1) == 2048).all()
    assert (freqs[:, -1] >= 1).all()
    assert (freqs >= 0).all()


def test_side_round_trip_and_limits() -> None:
    worst = np.zeros((17, 128), np.int64)
    worst[:, :126:2] = 32
    worst[:, -1] = 2048 - worst.sum(axis=1)
    tables = Tables(200, False, np.arange(17), worst)
    side = write_side(tables)
    assert len(side) <= MAX_SIDE_BYTES
    again = read_side(side, 128, 256)
    assert (again.freqs == worst).all()
    assert (again.table_of == tables.table_of).all()
    for broken in (side[:-1], side + b"\0", side[:3], b"\2" + side[1:], b"", side[:1] + b"\2" + side[2:]):
        with pytest.raises(FormatError):
            read_side(broken, 128, 256)

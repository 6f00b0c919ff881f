"""Rows of packs: the codec's word, and what untrusted numbers become."""

from __future__ import annotations

import numpy as np

from deltavcs.index.tables import pack_columns
from deltavcs.objects.packindex import RECORD


def records(*rows):
    out = np.zeros(len(rows), dtype=RECORD)
    for record, fields in zip(out, rows, strict=True):
        for name, value in fields.items():
            record[name] = value
    return out


def test_codecs_have_the_words_of_the_spec_and_unknown_ones_their_number():
    found = records(*({"blob": bytes([n]) * 32, "codec": n} for n in (0, 1, 2, 3, 4, 5, 254, 255)))
    _, columns = pack_columns("p", found)
    assert columns[2] == ["raw", "plain", "xor", "exp", "delta", "5", "254", "derived"]


def test_no_base_is_null():
    found = records({"blob": b"\1" * 32}, {"blob": b"\2" * 32, "base": b"\3" * 32})
    assert pack_columns("p", found)[1][3] == [None, "03" * 32]


def test_a_blob_that_a_pack_names_twice_is_one_row():
    found = records({"blob": b"\1" * 32, "entry_bytes": 5}, {"blob": b"\1" * 32, "entry_bytes": 9})
    row, columns = pack_columns("p", found)
    assert row == ("p", 1, 5)
    assert columns[0] == ["01" * 32]


def test_sizes_beyond_sixty_three_bits_are_cut():
    found = records({"blob": b"\1" * 32, "raw_bytes": 2**64 - 1, "entry_bytes": 2**63})
    row, columns = pack_columns("p", found)
    assert row[2] == columns[4][0] == columns[5][0] == 2**63 - 1

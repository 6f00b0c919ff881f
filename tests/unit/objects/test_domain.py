"""The id of a blob, which does not depend on how it is read."""

from __future__ import annotations

import pytest
from blake3 import blake3

from deltavcs.objects import domain
from deltavcs.objects.domain import hash_blob, tensor_domain
from deltavcs.objects.incoming import MemorySource


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 640])
def test_an_id_is_the_hash_of_domain_zero_and_bytes(monkeypatch, size):
    monkeypatch.setattr(domain, "SPAN_BYTES", 64)
    data = bytes(i % 251 for i in range(size))
    name = tensor_domain("U8", (size,))
    expected = blake3(name.encode() + b"\0" + data).hexdigest()
    assert hash_blob(name, size, MemorySource(data).read_into) == expected

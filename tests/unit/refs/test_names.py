"""Which names a ref may have."""

from __future__ import annotations

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.refs import ABSENT, RefStore, branch_ref, check_name
from deltavcs.signature import Signature
from deltavcs.storage import LocalStorage

ID = "a" * 64

GOOD = [
    "a",
    "llama3.1",
    "v1+chat",
    "run-1",
    "org/model",
    "a/b/c",
    "ünïcødé",
    "1.5",
    "x" * 255,
    "HEAD",
    "a@b",
    "#1",
]
BAD = [
    "",
    "@",
    "a..b",
    "..",
    ".",
    ".a",
    "a/.b",
    "-a",
    "a/-b",
    "a.",
    "a/b.",
    "a.lock",
    "a.lock/b",
    "/a",
    "a/",
    "a//b",
    "a b",
    "a\tb",
    "a\nb",
    "a\0b",
    "a\x7fb",
    "a~1",
    "a^",
    "a:b",
    "a?",
    "a*",
    "a[b",
    "a]b",
    "a\\b",
    "a(b",
    "a)b",
    'a"b',
    "a'b",
    "a<b",
    "a>b",
    "a|b",
    "a@{1}",
    "a" * 64,
    "0123456789abcdef" * 4,
    "x" * 256,
    "é" * 128,
    "a\u2028b",
    "a\u00a0b",
    "a\u200bb",
    "\ud800",
]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_are_allowed_can_be_used(tmp_path, name):
    refs = RefStore(LocalStorage(tmp_path, sync=False))
    refs.move(branch_ref(name), expected=ABSENT, new=ID, signature=Signature("me", 1))
    assert refs.get(f"refs/heads/{name}") == ID and refs.all() == {f"refs/heads/{name}": ID}


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_not(name):
    with pytest.raises(InvalidInputError) as caught:
        check_name(name)
    assert caught.value.kind is ErrorKind.BAD_REF_NAME

"""One line for a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deltavcs.brief import brief

ID = "0123456789ab" + "c" * 52


@dataclass
class Part:
    __repr__ = brief
    name: str


@dataclass
class Whole:
    commit: str = ""
    text: str = ""
    share: float = 1.0
    path: Path | None = None
    parts: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()
    table: Mapping[str, object] = field(default_factory=dict)
    call: object = None
    __repr__ = brief


def test_nothing_is_said_of_what_is_empty_or_as_by_default() -> None:
    assert repr(Whole()) == "Whole()"
    assert repr(Whole(share=0.0)) == "Whole(share=0)"


def test_ids_by_their_beginning_also_inside_of_text() -> None:
    assert repr(Whole(commit=ID)) == "Whole(commit='0123456789ab…')"
    assert repr(Whole(text=f"{ID} + {ID}")) == "Whole(text='0123456789ab… + 0123456789ab…')"
    assert repr(Whole(text="x" * 100)) == f"Whole(text='{'x' * 60}…')"


def test_long_collections_by_their_length() -> None:
    assert repr(Whole(names=("a", "b"))) == "Whole(names=['a', 'b'])"
    assert repr(Whole(names=tuple("abcd"))) == "Whole(names=<4>)"
    assert repr(Whole(parts=(Part("a"),))) == "Whole(parts=<1 Part>)"
    assert repr(Whole(table={"a": Part("x")})) == "Whole(table=<1 Part>)"
    assert repr(Whole(table={"a": 0.123456789})) == "Whole(table={'a': 0.123457})"


def test_functions_by_their_name() -> None:
    assert repr(Whole(call=len)) == "Whole(call=len)"

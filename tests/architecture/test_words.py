"""Codecs, kinds and roles have the same words in code, command line, SQL, specification and glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltavcs.codec.api import DERIVED, CodecId, codec_word
from deltavcs.index import migrate
from deltavcs.index.database import open_database
from deltavcs.objects.model import Kind, Role
from dvx.commands.show import show

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs/spec/v1.md").read_text()
CODEC_SPEC = (ROOT / "docs/spec/v1-codec.md").read_text()
GLOSSARY = (ROOT / "docs/glossary.md").read_text()
SQL_PAGE = (ROOT / "docs/sql.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

CODECS = {int(c): c.word for c in CodecId} | {DERIVED: codec_word(DERIVED)}
WORDS = {"codec": set(CODECS.values()), "kind": {str(k) for k in Kind}, "role": {str(r) for r in Role}}

# Columns whose comment lists the words, and what the list ends with beside them.
SQL_COLUMNS = {
    ("blobs", "codec"): {"a number"},
    ("tensors", "codec"): {"a number"},
    ("commits", "kind"): set(),
    ("log", "kind"): set(),
    ("edges", "role"): {"free text"},
    ("lineage", "role"): {"free text"},
}


def listed(text: str) -> list[str]:
    """The items of `a, b or c.`, after a colon if there is one."""
    items = re.split(r",\s+or\s+|,\s+|\s+or\s+", text.rpartition(": ")[2].strip().removesuffix("."))
    return [item.strip("` ") for item in items]


def section(page: str, title: str) -> str:
    """The text under a heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of the only table in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def assert_words(of: str, found: list[str]) -> None:
    assert len(found) == len(set(found))
    assert set(found) == WORDS[of]


def test_the_numbers_of_codecs_in_the_specification() -> None:
    (line,) = re.findall(r"\| codec: (.*?) \(\[", SPEC)
    derived = re.search(r"\), (\d+) derived \(§4\.1\)", SPEC)
    assert derived
    numbers = {int(n): word for n, word in (item.split() for item in line.split(", "))}
    assert numbers | {int(derived[1]): "derived"} == CODECS


def test_the_names_of_codecs_in_their_own_specification() -> None:
    named = {int(r[0]): r[1].lower() for r in rows(section(CODEC_SPEC, "1. Model").split("A non-empty")[0])}
    assert named.pop(DERIVED) == "reserved for derived tensors"
    assert named == {number: word for number, word in CODECS.items() if number != DERIVED}


def test_kinds_and_roles_in_the_specification() -> None:
    text = section(SPEC, "3.2 Commit")
    kinds = re.search(r"`KIND`: (.*?)\.", text)
    assert kinds
    assert_words("kind", listed(kinds[1]))
    table = rows(text)
    assert_words("role", [row[0] for row in table])
    assert {kind for row in table for kind in listed(row[1])} <= WORDS["kind"] | {"any"}


def test_the_glossary() -> None:
    assert {int(row[1]): row[0] for row in rows(section(GLOSSARY, "Codecs"))} == CODECS
    assert_words("kind", [row[0] for row in rows(section(GLOSSARY, "Kinds"))])
    assert_words("role", [row[0] for row in rows(section(GLOSSARY, "Roles"))])


def test_the_glossary_and_the_specification_say_the_same_of_roles() -> None:
    spec = {row[0]: row[2] for row in rows(section(SPEC, "3.2 Commit"))}
    for role, meaning in rows(section(GLOSSARY, "Roles")):
        assert spec[role].startswith(meaning)


def test_the_glossary_counts_right() -> None:
    for of, number in (("kind", "five"), ("role", "six"), ("codec", "six")):
        assert f"one of [{number} words](#{of}s)" in GLOSSARY
        assert len(WORDS[of]) == {"five": 5, "six": 6}[number]


def test_the_schema() -> None:
    with open_database(None, write=True, wait_s=0, threads=1) as connection:
        migrate.create(connection)
        sql = "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        comments = {(table, column): text for table, column, text in connection.execute(sql).fetchall()}
    # A new column of these names is listed here, or says no words.
    assert {at for at, text in comments.items() if at[1] in WORDS and len(listed(text)) > 1} == {
        *SQL_COLUMNS,
        ("refs", "kind"),
    }
    for (table, column), others in SQL_COLUMNS.items():
        assert_words(column, [w for w in listed(comments[table, column]) if w not in others])


@pytest.mark.parametrize(("relation", "column"), SQL_COLUMNS)
def test_the_page_about_sql(relation: str, column: str) -> None:
    kind = "view" if relation in ("tensors", "log", "lineage") else "table"
    (text,) = (row[2] for row in rows(section(SQL_PAGE, f"{kind} `{relation}`")) if row[0] == column)
    assert_words(column, [w for w in listed(text) if w not in SQL_COLUMNS[relation, column]])


@pytest.mark.parametrize(
    ("of", "pattern"),
    [
        ("kind", r"kind is ([^.]*)\."),
        ("role", r"role of a parent is ([^.]*), or what --parent said\."),
        ("codec", r"codec of a tensor, how it is stored, is ([^.]*)\."),
    ],
)
def test_the_help_of_show(of: str, pattern: str) -> None:
    found = re.search(pattern, " ".join((show.help or "").split()))
    assert found
    assert_words(of, listed(found[1]))


def test_what_the_docs_and_examples_ask_for_exists() -> None:
    texts = [page.read_text() for page in [*PAGES, *sorted((ROOT / "cli").rglob("*.py"))]]
    asked = [
        (of, word) for text in texts for of, word in re.findall(r"\b(codec|kind|role) = '([^']*)'", text)
    ]
    assert {of for of, _ in asked} >= {"kind", "role"}
    assert {(of, word) for of, word in asked if word not in WORDS[of]} == set()


def compared(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Words that the code compares with something called kind, role or codec."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        names = [getattr(side, "attr", getattr(side, "id", "")) for side in sides]
        for of in WORDS:
            if any(name in (of, f"{of}s", f"commit_{of}") for name in names):
                yield from (
                    (of, s.value) for s in sides if isinstance(s, ast.Constant) and isinstance(s.value, str)
                )


def test_what_the_command_line_compares_with() -> None:
    found = {
        at for path in (ROOT / "cli").rglob("*.py") for at in compared(ast.parse(path.read_text()))
    }  # fmt: skip
    assert {("kind", "adapter"), ("kind", "base"), ("role", "previous"), ("role", "delta")} <= found
    assert {(of, word) for of, word in found if word not in WORDS[of]} == set()


def test_the_columns_of_the_command_line_are_called_by_these_words() -> None:
    titles = {
        node.args[0].value
        for path in (ROOT / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Column" and node.args
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert "kind" in titles
    assert titles.isdisjoint({"type", "representation", "encoding", "relation"})

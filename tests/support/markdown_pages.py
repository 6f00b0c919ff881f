"""What the documentation holds that a program can check: links, headings, code blocks, commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("", "sh", "bash", "console")

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_NAMED = re.compile(r'<a id="([^"]+)"></a>')


@dataclass(frozen=True)
class Block:
    """A fenced block and the line of its page that it begins on."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{page_name(self.page)}:{self.line}"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, m.start()) + 1, m["language"], m["text"])
        for m in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands in single backticks, on one line."""
    return [" ".join(m[1].split()) for m in _SPAN.finditer(prose(page))]


def links(page: Path) -> list[str]:
    return _LINK.findall(_SPAN.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """Fragments of a page: of its headings, as GitHub makes them, and those that it names."""
    found: dict[str, int] = {}
    out = set(_NAMED.findall(prose(page)))
    for title in _HEADING.findall(prose(page)):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower()).replace(" ", "-")
        out.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return out


def commands(block: Block) -> Iterator[list[str]]:
    """The words of every `dvx` command of a block for a shell, in order; pipes end a command."""
    if block.language not in SHELLS:
        return
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        lexer.commenters = ""  # they begin with a word of their own, see _split
        try:
            words = list(lexer)
        except ValueError:  # output, or prose with an apostrophe
            assert not line.lstrip("$ ").startswith("dvx "), f"{block}: cannot be split: {line}"
            continue
        yield from (one[1:] for one in _split(words) if one[:1] == ["dvx"])


def _split(words: list[str]) -> Iterator[list[str]]:
    one: list[str] = []
    for word in words:
        if word.startswith("#"):
            break
        if set(word) <= set(";|&<>"):
            yield one
            one = []
        else:
            one.append(word)
    yield one

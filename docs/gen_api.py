"""Write `docs/api.md` from signatures and docstrings of `deltavcs`: `python docs/gen_api.py [--check]`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import deltavcs as dv
from deltavcs import errors

PAGE = Path(__file__).with_name("api.md")
EXAMPLES = Path(__file__).with_name("api_examples.py")
_WIDTH = 96

_TOP = """# The Python API

<!-- Written by docs/gen_api.py; do not edit. -->

`import deltavcs as dv` loads nothing heavy; each name is loaded when it is first used. What this page lists
may be relied on: a name that it does not list can change with any release.

Verbs are functions of a `Repository`: `dv.commit(repo, …)`. They return frozen dataclasses, take everything
after the first arguments by name, and never print or ask. Whatever goes wrong on purpose is a `DeltaVCSError`
with a `kind` ([errors](#errors)). Times are microseconds since 1970-01-01 UTC, sizes are bytes, ids are 64
hexadecimal digits. A *revision* names a commit: a branch, a tag, an id or its beginning, `name~2`. An
*expression* combines revisions: `llama3.1 + 0.8 * (chat - llama3.0)` ([words](glossary.md)).
The same verbs on the command line: [cli.md](cli.md).

Every example of this page runs in the tests, in a folder that holds the checkpoints `llama3.0`, `llama3.1`,
`chat` and `code` (small ones), and the task file `trivia.jsonl`.
"""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Opening a repository": ("init", "open", "discover", "Repository"),
    "Storing": ("import_base", "commit"),
    "Reading": (
        "checkout", "checkout_files", "load_model", "load_tokenizer", "show", "ls", "ls_revision", "status",
    ),
    "Transferring and merging": ("transfer", "rank_deltas", "merge", "MERGE_METHODS", "mashup", "recycle"),
    "Tasks and ranking": ("add_task", "list_tasks", "task", "remove_task", "rank", "connectivity"),
    "Names": (
        "branch", "branches", "rename_branch", "delete_branch", "tag", "tags", "delete_tag", "reflog",
    ),
    "History and queries": ("log", "lineage", "diff", "sql"),
    "Maintenance": ("du", "gc", "plan_gc", "fsck", "rebuild_index", "doctor", "__version__"),
}  # fmt: skip
VALUES = (
    "Draft", "Signature", "Identity", "Resources", "Profile", "Running", "Selection", "MergeMethod",
    "Training", "Wording", "HubOptions", "Intake", "Carrying",
)  # fmt: skip
_CONSTANTS = {
    "MERGE_METHODS": "The merge methods by name, with their parameters; `MergeMethod.name` is one of them.",
    "__version__": "The version of the installed package.",
}
_ERROR_NAMES = ("Advice", "ErrorKind", "DeltaVCSError")
_PARTS = ("Args", "Attributes", "Returns", "Raises")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def page() -> str:
    """The whole page."""
    parts = [_TOP, *_example("At a glance"), *_contents()]
    for title, names in SECTIONS.items():
        parts += [f"\n## {title}\n", *_example(title)]
        for name in names:
            parts += _entry(name)
    parts += [*_values(), *_results(), *_errors()]
    return "".join(parts)


def documented() -> set[str]:
    """Every public name that the page has."""
    classes = {c.__name__ for c in errors.DeltaVCSError.__subclasses__()}
    return {n for names in SECTIONS.values() for n in names} | {*VALUES, *_ERROR_NAMES} | classes


def examples() -> dict[str, str]:
    """Each function's body in `api_examples.py` by its title, its docstring."""
    text = EXAMPLES.read_text()
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            body = lines[node.body[0].end_lineno : node.end_lineno]
            found[(ast.get_docstring(node) or "").rstrip(".")] = textwrap.dedent("\n".join(body)).strip()
    return found


def _example(title: str) -> Iterator[str]:
    yield f"\n```python\n{examples()[title]}\n```\n"


def _contents() -> Iterator[str]:
    yield "\n| section | names |\n|---|---|\n"
    rows = {**SECTIONS, "Values": VALUES}
    for title, names in rows.items():
        anchor = title.lower().replace(" ", "-")
        yield f"| [{title}](#{anchor}) | {', '.join(f'`{n}`' for n in names)} |\n"
    yield "| [Results](#results), [Errors](#errors) | what verbs return, and what they raise |\n"


def _entry(name: str) -> Iterator[str]:
    yield f"\n### `dv.{name}`\n"
    if name in _CONSTANTS:
        yield f"\n{_CONSTANTS[name]}\n"
        return
    value = getattr(dv, name)
    yield f"\n```python\n{_signature(f'dv.{name}', value)}\n```\n\n"
    yield from _text(value)
    if inspect.isclass(value):
        yield from _methods(name, value)


def _methods(name: str, one: type[Any]) -> Iterator[str]:
    for method, value in vars(one).items():
        if method.startswith("_"):
            continue
        if isinstance(value, property | cached_property):
            what = inspect.getdoc(value)
            yield f"\n#### `{name}.{method}`\n\n{what}\n"
        elif inspect.isfunction(value):
            yield f"\n#### `{name}.{method}`\n\n```python\n{_signature(method, value, bound=True)}\n```\n\n"
            yield from _text(value)


def _text(value: object) -> Iterator[str]:
    """A docstring in Google's style as Markdown."""
    prose, parts = _parse(inspect.getdoc(value) or "")
    yield prose.strip() + "\n"
    for title, entries in parts.items():
        yield f"\n{title}:\n\n"
        for names, meaning in entries:
            shown = ", ".join(f"`{n.strip()}`" for n in names.split(",")) if names else ""
            yield f"* {shown}: {meaning}\n" if shown else f"* {meaning}\n"


def _parse(doc: str) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """The text of a docstring, and its sections' entries."""
    prose: list[str] = []
    parts: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] | None = None
    for line in doc.splitlines():
        if line.rstrip(":") in _PARTS and line.endswith(":"):
            current = parts.setdefault(line.rstrip(":"), [])
        elif current is None or (line and not line.startswith(" ")):
            current = None
            prose.append(line)
        elif line.strip():
            _add(current, line)
    return "\n".join(prose), parts


def _add(entries: list[tuple[str, str]], line: str) -> None:
    """One more line of a section: a new entry, or what belongs to the last."""
    names, colon, meaning = line.strip().partition(": ")
    if line.startswith("     ") or not colon:
        last = entries.pop() if entries else ("", "")
        entries.append((last[0], f"{last[1]} {line.strip()}".strip()))
    else:
        entries.append((names, meaning))


def _signature(shown: str, value: Callable[..., Any], *, bound: bool = False) -> str:
    """A call as it is written, with one parameter a line where it is long."""
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())[1 if bound else 0 :]
    result = signature.return_annotation
    tail = (
        f" -> {_type(result)}" if result is not inspect.Signature.empty and not inspect.isclass(value) else ""
    )
    words = list(_words(parameters))
    line = f"{shown}({', '.join(words)}){tail}"
    if len(line) <= _WIDTH:
        return line
    return f"{shown}(\n" + "".join(f"    {word},\n" for word in words) + f"){tail}"


def _words(parameters: list[inspect.Parameter]) -> Iterator[str]:
    star = False
    for one in parameters:
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            star = True
            yield "*"
        text = one.name
        if one.annotation is not inspect.Parameter.empty:
            text += f": {_type(one.annotation)}"
        if one.default is not inspect.Parameter.empty:
            text += f" = {_default(one.default)}"
        yield text


def _type(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace("'", '"')


def _default(value: object) -> str:
    """A default that is the same on every machine; `…` for what is made anew or has no short name."""
    if isinstance(value, bool | int | float | str | tuple | None):
        return repr(value).replace("'", '"')
    return str(getattr(value, "__name__", "…"))


def _values() -> Iterator[str]:
    yield "\n## Values\n\nWhat callers make and pass on.\n"
    yield from _example("Values")
    for name in VALUES:
        yield from _entry(name)


def _results() -> Iterator[str]:
    yield (
        "\n## Results\n\nWhat verbs return: frozen dataclasses, which callers do not make. Fields may be "
        "added,\nnever removed.\n"
    )
    for name, one in sorted(results().items()):
        yield f"\n### `{name}`\n\n"
        yield from _result(one)


def _result(one: type[Any]) -> Iterator[str]:
    prose, parts = _parse(inspect.getdoc(one) or "")
    meanings = {
        name.strip(): text for names, text in parts.get("Attributes", ()) for name in names.split(",")
    }
    yield prose.strip() + "\n"
    yield "\n| field | type | meaning |\n|---|---|---|\n"
    for field in dataclasses.fields(one):
        kind = _type(field.type).replace("|", "\\|")
        yield f"| `{field.name}` | `{kind}` | {meanings.get(field.name, '')} |\n"
    for name, value in vars(one).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            call = _signature(name, value, bound=True) if inspect.isfunction(value) else name
            doc = (inspect.getdoc(value) or "").splitlines()[0]
            yield f"\n`.{call}`: {doc}\n"


def results() -> dict[str, type[Any]]:
    """The dataclasses that verbs return, and those that their fields hold."""
    found: dict[str, type[Any]] = {}
    verbs = [getattr(dv, n) for names in SECTIONS.values() for n in names if n not in _CONSTANTS]
    todo = [(v, str(inspect.signature(v).return_annotation)) for v in verbs if inspect.isfunction(v)]
    for holder, annotation in todo:
        scope = vars(sys.modules[holder.__module__])
        for word in _WORD.findall(annotation):
            one = scope.get(word)
            if not dataclasses.is_dataclass(one) or not inspect.isclass(one):
                continue
            if one.__name__ not in (*found, *VALUES, "Repository"):
                found[one.__name__] = one
                todo += [(one, _type(field.type)) for field in dataclasses.fields(one)]
    return found


def _errors() -> Iterator[str]:
    yield "\n## Errors\n"
    yield from _example("Errors")
    yield "\n### `dv.DeltaVCSError`\n\n"
    yield from _text(errors.DeltaVCSError)
    yield "\nThe classes below it say what a handler would do, the kinds what happened.\n\n"
    yield "| class | also | meaning | kinds |\n|---|---|---|---|\n"
    kinds = kinds_by_class()
    for one in errors.DeltaVCSError.__subclasses__():
        also = ", ".join(f"`{b.__name__}`" for b in one.__bases__ if b is not errors.DeltaVCSError)
        meaning = (one.__doc__ or "").splitlines()[0]
        found = ", ".join(f"`{kind}`" for kind in kinds.get(one.__name__, ()))
        yield f"| `dv.{one.__name__}` | {also} | {meaning} | {found} |\n"
    yield "\n### `dv.ErrorKind`\n\n"
    yield from _text(dv.ErrorKind)
    yield "\n" + ", ".join(f"`{kind}`" for kind in dv.ErrorKind) + ".\n"
    unused = set(dv.ErrorKind).difference(*kinds.values())
    if unused:
        yield "\nKept, though nothing raises them now: " + ", ".join(f"`{k}`" for k in sorted(unused)) + ".\n"
    yield "\n### `dv.Advice`\n\n"
    yield from _text(dv.Advice)
    yield "\n" + ", ".join(f"`{one}`" for one in sorted(dv.Advice)) + ".\n"


def kinds_by_class() -> dict[str, list[errors.ErrorKind]]:
    """The kinds that each class is raised with, as the sources of the library say: `Class(…, kind=…)`."""
    found: dict[str, set[errors.ErrorKind]] = {}
    for path in Path(dv.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = [word.value for word in node.keywords if word.arg == "kind"]
                inner = [one for value in given for one in ast.walk(value)]
                names = [one.attr for one in inner if isinstance(one, ast.Attribute)]
                kinds = {errors.ErrorKind[n] for n in names if n in errors.ErrorKind.__members__}
                found.setdefault(node.func.id, set()).update(kinds)
    order = list(errors.ErrorKind)
    return {name: sorted(kinds, key=order.index) for name, kinds in found.items()}


def main() -> int:
    """Write the page; with `--check` only say whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.is_file() and PAGE.read_text() == text:
            return 0
        sys.stderr.write(f"{PAGE} is out of date; run: python docs/gen_api.py\n")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

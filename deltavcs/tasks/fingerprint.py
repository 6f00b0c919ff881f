"""The identity of rows, and of a split of them under a template."""

from __future__ import annotations

from collections.abc import Sequence

from deltavcs.canonical import encode_json
from deltavcs.oid import hash_bytes
from deltavcs.tasks.template import Example, Template


def example_id(example: Example) -> str:
    """The id of one rendered row: its prompt and answer, nothing of file, line or other columns."""
    return hash_bytes("task-row", encode_json([example.prompt, example.answer]))


def fingerprint_rows(row_ids: Sequence[str], template: Template, split: str) -> str:
    """The identity of a task's rows under a template: 64 hex digits.

    BLAKE3-256, domain `task-fingerprint`, of the canonical JSON
    `{"rows": [ids, sorted], "split": …, "template": {…}}`. The order of rows, the kind of file and columns
    that the template does not show make no difference; a changed, added or repeated row does.
    """
    value = {"rows": sorted(row_ids), "split": split, "template": template.to_dict()}
    return hash_bytes("task-fingerprint", encode_json(value))

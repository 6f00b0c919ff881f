"""JSON as rows hold it."""

from __future__ import annotations

import json
from typing import Any

from deltavcs import canonical


def parse_row_json(text: str) -> Any:
    """Parse JSON, strictly. Raises ValueError with the reason, for people who have to find the place."""
    try:
        return canonical.parse_json(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"malformed JSON: {exc}") from exc

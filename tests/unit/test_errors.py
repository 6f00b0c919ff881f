"""What foreign errors say, in a line."""

from __future__ import annotations

import pytest

from deltavcs.errors import reason_of


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ValueError"),
        ("one\ntwo", "one"),
        (
            "Validation error for field 'x':\n    TypeError: no number\n",
            "Validation error for field 'x': TypeError: no number",
        ),
        ("ends with a colon:", "ends with a colon:"),
    ],
)
def test_a_colon_announces_the_reason(text, reason):
    assert reason_of(ValueError(text)) == reason

from __future__ import annotations

from dataset_rows import ORIGINAL

from deltavcs.tasks.catalog import BUILTIN_TASKS
from deltavcs.tasks.reading import render_row


def test_gsm8k_asks_for_the_worked_solution() -> None:
    example = render_row(BUILTIN_TASKS["gsm8k"], ORIGINAL["gsm8k"], origin="row 1")
    assert example.prompt.endswith("Problem: Tom has 2 apples and buys 3. How many?")
    assert example.answer == "2 + 3 = <<2+3=5>>5\n#### 5"
    assert example.plain_prompt.endswith("How many?\nSolution:")

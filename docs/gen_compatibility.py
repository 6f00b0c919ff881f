"""Write `docs/compatibility.md` by running every kind of checkpoint: `python docs/gen_compatibility.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("compatibility", "support")]

from page import all_kinds, page, run  # noqa: E402


def main() -> int:
    """Write the page; 1 if any cell is wrong."""
    outcomes = [(title, [(kind, run(kind)) for kind in kinds]) for title, kinds in all_kinds()]
    (ROOT / "docs" / "compatibility.md").write_text(page(outcomes))
    wrong = [
        f"{kind.name}: {name}: {cell.against}"
        for _, rows in outcomes
        for kind, cells in rows
        for name, cell in cells.items()
        if cell.outcome == "WRONG"
    ]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

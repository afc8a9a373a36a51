"""Writes the table of the passes that make graphs faster into docs/export.md.

Usage: python scripts/write_pass_table.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sr_edge.export.passes.speed_passes import SPEED_PASSES, SpeedPass

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- passes: written by scripts/write_pass_table.py -->", "<!-- end of passes -->"


def table(passes: Sequence[SpeedPass] = SPEED_PASSES) -> str:
    """The passes in their order, with what shows that each is a gain."""
    rows = (f"| `{each.name}` | {each.gain} | {each.summary.replace('|', chr(92) + '|')} |" for each in passes)
    return "\n".join(("| pass | gain by | what it changes |", "|---|---|---|", *rows))


def with_table(page: str) -> str:
    """The page with the table of today between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

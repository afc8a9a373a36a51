"""The table of passes in docs/export.md."""

from __future__ import annotations

from scripts.write_pass_table import PAGE, with_table


def test_the_table_is_that_of_the_passes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page, "run: python scripts/write_pass_table.py"

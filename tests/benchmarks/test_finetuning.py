"""What fine-tuning is said to give: by the worse test set, and against the same choice of layers."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sr_edge.runtimes import Spread

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("finetuning_rows")


@pytest.mark.parametrize(
    ("changes_db", "ratio", "verdict"),
    [
        ((-0.01, -0.01), 1.0, "worth it"),
        ((-0.01, -0.06), 1.0, "not worth it"),
        ((-0.12, -0.12), 0.90, "worth it"),
        ((-0.12, -0.12), 0.91, "not worth it"),
    ],
)
def test_fine_tuning_is_worth_it_where_every_set_or_the_time_is_better(
    rows: Any, changes_db: tuple[float, float], ratio: float, verdict: str
) -> None:
    def row(chosen_by: str, steps: int, found_db: tuple[float, float], spread: Spread | None) -> Any:
        qualities = (rows.Quality(36.0 + change_db, change_db, None) for change_db in found_db)
        return rows.Row(chosen_by, steps, 3, 4, 10.0, dict(zip(("set5", "set14"), qualities, strict=True)), spread)

    made = (
        row("another", 0, (0.0, 0.0), None),
        row("within the budget", 0, (-0.12, -0.12), None),
        row("within the budget", 20, changes_db, Spread(ratio, ratio, ratio)),
    )
    table = next(rows.section([asdict(rows.NetworkRows("ups-tiny-x2", "bf16", made))]))
    assert table.splitlines()[-1].endswith(f"| {verdict} |")
    assert table.splitlines()[-2].startswith(
        "| ups-tiny-x2 | within the budget | 0 | 3 of 4 | 10 | -0.120 | -0.120 | 1 |"
    )

"""Keeps the figures of docs/reliability.md in docs/results/reliability.json and writes them into the page.

python benchmarks/reliability.py [FUZZ_RESULTS.json]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE = _DOCS / "results" / "reliability.json", _DOCS / "reliability.md"
_BEGIN, _END = "<!-- figures: written by benchmarks/reliability.py -->", "<!-- end of figures -->"


def record(name: str, figures: Any) -> None:
    """Stores the figures of one measurement and writes the page anew."""
    results = _stored()
    results[name] = figures
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(f"{before}{_BEGIN}\n\n{tables(results)}\n{_END}{after}", encoding="utf-8")


def _stored() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return stored


def tables(results: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    parts = []
    if fuzz := results.get("fuzz"):
        tried = [(row["kind"], row["tried"], row["tried"] - row["handled_badly"], row["handled_badly"]) for row in fuzz]
        total = [sum(row[column] for row in tried) for column in (1, 2, 3)]
        parts.append(_table(("hostile inputs", "tried", "handled well", "badly"), [*tried, ("all", *total)]))
    if kills := results.get("kills"):
        rows = [(row["command"], row["kills"], row["problems"]) for row in kills]
        parts.append(_table(("`kill -9` at random moments", "kills", "problems"), rows))
    if soak := results.get("soak"):
        title = f"{soak['minutes']:g} minutes of streaming, {soak['frames']:,} frames"
        names = {"resident_mb": "resident memory, MB", "threads": "threads", "open_files": "open files"}
        parts.append(
            _table((title, "second quarter", "last quarter"), [(text, *soak[key]) for key, text in names.items()])
        )
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    record("fuzz", json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

"""Measures a checkout and prints a table; with --before, beside the figures of an earlier run.

Usage: scripts/measure_house [--root FOLDER] [--package NAME] [--json FILE] [--before FILE] [--list [WORDS]]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from scripts.house.checkout import Checkout, Measure
from scripts.house.coupling import measure_coupling
from scripts.house.duplicates import measure_duplicates
from scripts.house.imports import measure_imports
from scripts.house.layout import measure_layout
from scripts.house.vocabulary import measure_vocabulary

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = (measure_layout, measure_imports, measure_duplicates, measure_coupling, measure_vocabulary)


def measure(checkout: Checkout) -> list[Measure]:
    return [figure for measurement in MEASUREMENTS for figure in measurement(checkout)]


def table(measures: list[Measure], before: dict[str, float] | None) -> str:
    """One line for each measure; those of the earlier run that are no longer measured come last."""
    values = {measure.name: measure.value for measure in measures}
    targets = {measure.name: measure.target for measure in measures}
    names = [*values, *(name for name in before or {} if name not in values)]
    columns = {"": names}
    if before is not None:
        columns["before"] = [_number(before.get(name)) for name in names]
    columns |= {
        "now": [_number(values.get(name)) for name in names],
        "target": [targets.get(name, "") for name in names],
    }
    padded = []
    for title, cells in columns.items():
        width = max(map(len, (title, *cells)))
        padded.append([cell.rjust(width) if title else cell.ljust(width) for cell in (title, *cells)])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def read_figures(file: Path) -> dict[str, float]:
    return {measure["name"]: measure["value"] for measure in json.loads(file.read_text("utf-8"))}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to measure; default: the one of this script")
    parser.add_argument("--package", default="sr_edge", help="folder of the package in the checkout; default: sr_edge")
    parser.add_argument("--json", type=Path, help="write the figures and all places to this file")
    parser.add_argument("--before", type=Path, help="JSON file of an earlier run to show beside this one")
    parser.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="WORDS",
        help="print the places of the measures whose name has WORDS in it",
    )
    options = parser.parse_args(arguments)
    measures = measure(Checkout.read(options.root, options.package))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in measures], indent=1) + "\n", encoding="utf-8")
    if options.list is None:
        print(table(measures, read_figures(options.before) if options.before else None))
        return
    for one in measures:
        if options.list in one.name and one.places:
            print(f"{one.name}: {one.value:g}", *one.places, sep="\n  ")


if __name__ == "__main__":
    main()

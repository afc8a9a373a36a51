"""Writes what the README shows: the picture of `make demo`, and the results table, measured here and now.

Usage: python scripts/update_readme.py --hr FOLDER_OF_ORIGINALS     measures, and writes picture, figures and table
       python scripts/update_readme.py                              writes the table again from the figures kept
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sr_edge.bench import BenchReport, markdown_report
from sr_edge.bundle.plain import from_plain

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "before_after.png"
FIGURES = ROOT / "docs" / "results" / "taylor-swinir-tiny-x2.json"
BEGIN, END = "<!-- results: written by scripts/update_readme.py -->", "<!-- end of results -->"
PYTHON = sys.executable


def measure(hr: Path) -> None:
    """Makes the demo's picture, and deploys the bundled weights with `hr` as originals."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([PYTHON, str(ROOT / "scripts" / "demo.py"), "--output", folder], check=True)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / "before_after.png", PICTURE)
        command = [PYTHON, "-m", "sr_edge", "deploy", "taylor-swinir-tiny", "--scale", "2", "--tile", "96x96"]
        command += ["--images", str(ROOT / "examples/pictures/calibration"), "--hr", str(hr), "--json"]
        command += ["-o", f"{folder}/tiny-x2.sredge"]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    bench = report["bench"]
    bench["rows"] = [{**row, "self_test": None} for row in bench["rows"]]  # all passed, or deploy would have failed
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(bench, indent=1) + "\n", encoding="utf-8")


def table() -> str:
    """The kept figures as Markdown: what ran, without the remarks, which `sr-edge bench` gives."""
    report = from_plain(BenchReport, json.loads(FIGURES.read_text(encoding="utf-8")), FIGURES.name)
    ran = [replace(row, spec=replace(row.spec, note=""), remarks=()) for row in report.rows if row.spec]
    return markdown_report(replace(report, rows=tuple(ran)))


def with_table(readme: str) -> str:
    """`readme` with the table between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"README.md lacks the marks {BEGIN} and {END}; put them where the table belongs")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr", type=Path, help="folder of originals (Set5) to measure quality on")
    hr = parser.parse_args().hr
    if hr is not None:
        measure(hr)
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

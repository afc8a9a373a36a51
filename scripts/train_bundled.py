"""Trains the weights that ship with the package, installs them, and writes docs/training.md.

Usage: python scripts/train_bundled.py --data FOLDER --val FOLDER --work FOLDER

FOLDER of --data: pictures to learn from (T91 and 200 pictures of BSD were used); of --val: Set5's originals. The work
folder keeps checkpoints: a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress

from sr_edge.metrics import psnr_y_db
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.resize import downscale_bicubic, resize_bicubic
from sr_edge.training import Recipe, TrainingReport, train_model
from sr_edge.training.data import PairSet
from sr_edge.training.loop import LOG
from sr_edge.training.run import CURVE

NAME, SCALE = "taylor-swinir-tiny", 2
RECIPE = Recipe(compile=True)
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE = DOCS / "training.md", DOCS / "images" / "training_curve.png"


def bicubic_psnr_db(validation: Path) -> dict[str, float]:
    """What the network has to beat, by picture."""
    pairs = PairSet.from_folder(validation, SCALE).pairs
    return {
        pair.name: psnr_y_db(resize_bicubic(downscale_bicubic(pair.hr, SCALE), SCALE), pair.hr, SCALE) for pair in pairs
    }


def page(report: TrainingReport, bicubic: dict[str, float], log: Path) -> str:
    """docs/training.md."""
    rows = [f"| {name} | {bicubic[name]:.2f} | {psnr_db:.2f} |" for name, psnr_db in report.psnr_db.items()]
    mean = sum(bicubic.values()) / len(bicubic)
    recipe = [f"| {name} | {value} |" for name, value in asdict(report.recipe).items()]
    with log.open(newline="") as file:
        steps = [f"| {row['step']} | {row['psnr_db']} |" for row in csv.DictReader(file)]
    return "\n".join(
        [
            "# How the bundled weights were trained",
            "",
            "Written by `scripts/train_bundled.py`, which trains them again:",
            "",
            "    python scripts/train_bundled.py --data PICTURES --val SET5 --work runs/tiny",
            "",
            f"`{NAME}` x{SCALE}, {report.pictures} pictures (T91 and 200 pictures of BSD, published for research;",
            f"none is part of this project), {report.minutes:.0f} minutes of wall time on one core of a shared server",
            "CPU, pauses included. Low-resolution halves are made by MATLAB's bicubic. The network starts as a",
            "nearest-neighbour enlarger (`sr_edge/training/start.py`); the moving average of its weights is what",
            "ships, as float16.",
            "",
            "Set5, PSNR-Y in dB, border of 2 pixels left out, measured with the weights as shipped:",
            "",
            "| picture | bicubic | ours |",
            "|---|---|---|",
            *rows,
            f"| **mean** | {mean:.2f} | **{report.mean_psnr_db:.2f}** |",
            "",
            "![learning curve](images/training_curve.png)",
            "",
            "| recipe | |",
            "|---|---|",
            *recipe,
            "",
            "| step | Set5 dB |",
            "|---|---|",
            *steps,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "val", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    with Progress(disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task(NAME, total=RECIPE.steps)
        report = train_model(
            NAME,
            SCALE,
            args.data,
            args.val,
            args.work,
            RECIPE,
            threads=args.threads,
            progress=lambda now: bars.update(bar, completed=now.step),
        )
    WEIGHTS_FOLDER.mkdir(exist_ok=True)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report.weights, WEIGHTS_FOLDER / f"{NAME}-x{SCALE}.safetensors")
    shutil.copyfile(args.work / CURVE, PICTURE)
    PAGE.write_text(page(report, bicubic_psnr_db(args.val), args.work / LOG), encoding="utf-8")
    print(f"{report.mean_psnr_db:.2f} dB on {args.val}; wrote the weights and {PAGE}")


if __name__ == "__main__":
    main()

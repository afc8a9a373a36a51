"""The log of a training: one CSV line a validation."""

from __future__ import annotations

import csv
from pathlib import Path

from sr_edge.whole_file import whole_file

LOG = "log.csv"
COLUMNS = ("step", "minutes", "learning_rate", "loss", "psnr_db")


def append_row(log: Path, step: int, minutes: float, learning_rate: float, loss: float, psnr_db: float) -> None:
    """Adds a line, and the heading before the first one. Raises OSError as writing does."""
    fresh = not log.exists() or log.stat().st_size == 0  # a full disk leaves an empty file
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow([step, f"{minutes:.2f}", f"{learning_rate:.3g}", f"{loss:.5f}", f"{psnr_db:.3f}"])


def truncate_after(log: Path, step: int) -> None:
    """Leaves the whole lines up to `step`: those after it are written again, and a full disk cuts a line short."""
    if not log.exists():
        return
    with log.open(newline="") as file:
        lines = list(csv.reader(file))
    kept = [line for line in lines[1:] if len(line) == len(COLUMNS) and int(line[0]) <= step]
    with whole_file(log) as unfinished, unfinished.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *kept])


def logged_minutes(log: Path) -> float:
    """How long the training took, up to its last validation."""
    with log.open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["minutes"])


def draw_curve(log: Path, picture: Path, title: str) -> None:
    """Draws PSNR-Y and loss against the step, from the log that `train` keeps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.plot(steps, [float(row["psnr_db"]) for row in rows], color="tab:blue")
    axis.set(xlabel="step", ylabel="validation PSNR-Y (dB)", title=title)
    axis.grid(alpha=0.3)
    loss = axis.twinx()
    loss.plot(steps, [float(row["loss"]) for row in rows], color="tab:orange", alpha=0.6)
    loss.set_ylabel("loss of one batch")
    figure.savefig(picture, dpi=110, format="png")

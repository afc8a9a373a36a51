"""The log of a training, a CSV file with one row for each validation, and its plot."""

from __future__ import annotations

import csv
from pathlib import Path

from sr_edge.files.whole_file import whole_file

LOG = "log.csv"
COLUMNS = ("step", "minutes", "learning_rate", "loss", "psnr_db")


def append_row(log: Path, step: int, minutes: float, learning_rate: float, loss: float, psnr_db: float) -> None:
    """Appends a row, and writes the header before the first one.

    Args:
        log: the CSV file; created if it does not exist.
        step: number of completed steps.
        minutes: training time so far.
        learning_rate: that of the last step.
        loss: that of the last step.
        psnr_db: PSNR-Y of the validation images.

    Raises:
        OSError: writing failed.
    """
    is_empty = not log.exists() or log.stat().st_size == 0  # it can be empty after the disk was full
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_empty:
            writer.writerow(COLUMNS)
        writer.writerow([step, f"{minutes:.2f}", f"{learning_rate:.3g}", f"{loss:.5f}", f"{psnr_db:.3f}"])


def truncate_after(log: Path, step: int) -> None:
    """Removes rows after `step`, which will be written again, and incomplete rows, which a full disk leaves."""
    if not log.exists():
        return
    with log.open(newline="") as file:
        rows = list(csv.reader(file))
    remaining = [row for row in rows[1:] if len(row) == len(COLUMNS) and int(row[0]) <= step]
    with whole_file(log) as unfinished, unfinished.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *remaining])


def logged_minutes(log: Path) -> float:
    """Duration of the training up to its last validation, in minutes."""
    with log.open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["minutes"])


def draw_curve(log: Path, image: Path, title: str) -> None:
    """Plots PSNR-Y and loss against the step.

    Args:
        log: the CSV file.
        image: the PNG file to write.
        title: title of the plot.
    """
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
    figure.savefig(image, dpi=110, format="png")

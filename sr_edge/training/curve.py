"""The learning curve as a picture."""

from __future__ import annotations

import csv
from pathlib import Path


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

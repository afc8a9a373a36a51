"""`sr-edge train`: teaches a registered network on a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sr_edge.cli.options import Json, Threads, Weights


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name (`sr-edge models`).")],
    scale: Annotated[int, typer.Option(help="Magnification: 2, 3 or 4.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Pictures to learn from, also in folders below.")],
    val: Annotated[Path, typer.Option(metavar="DIR", help="Pictures to validate on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Checkpoint, log, curve and weights; continued if there.")],
    weights: Weights = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 6000,
    batch: Annotated[int, typer.Option(help="Crops a step.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Decides the first weights and the order of the data.")] = 0,
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Through torch.compile: faster steps; needs a C++ compiler.")
    ] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train a network on a folder of pictures; stop and go on at any time."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    with result_on_stdout(as_json) as show:
        from sr_edge.training import Recipe, train_model

        with progress_on_stderr() as progress:
            recipe = Recipe(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, compile=compile_network)
            report = train_model(
                model,
                scale,
                data,
                val,
                out,
                recipe,
                start=weights,
                threads=threads,
                progress=lambda now: progress("training", now.step, now.steps),
            )
            lines = [f"{name}: {psnr_db:.2f} dB" for name, psnr_db in report.psnr_db.items()]
            lines += [f"skipped: {reason}" for reason in report.skipped]
            lines += [f"mean PSNR-Y {report.mean_psnr_db:.2f} dB after {report.minutes:.0f} minutes; {report.weights}"]
        show(report, "\n".join(lines))

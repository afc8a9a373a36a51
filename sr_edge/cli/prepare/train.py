"""`sr-edge train`: trains a registered network on a folder of images."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import LOADING_TORCH, JsonOption, ThreadsOption, WeightsOption
from sr_edge.cli.terminal import console_on, print_line
from sr_edge.errors import UsageError
from sr_edge.printable import one_line

if TYPE_CHECKING:
    from sr_edge.training import TrainingProgress, TrainingReport

SHOWN_SKIPPED = 5


NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model that `sr-edge models` lists.")]
TrainingScaleOption = Annotated[int, typer.Option(help="Magnification: 2, 3 or 4.")]
DataOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of training images, subfolders included.")]
ValidationOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of validation images.")]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder for checkpoint, log, curve and weights. A checkpoint in it is resumed.",
    ),
]
FromBundledOption = Annotated[bool, typer.Option("--from-bundled", help="Start from the bundled weights.")]
RecipeOption = Annotated[
    Path | None,
    typer.Option(metavar="JSON", help="File with the hyper-parameters of the training.", show_default=False),
]
StepsOption = Annotated[int | None, typer.Option(help="Number of optimizer steps. Default: 6000.", show_default=False)]
BatchOption = Annotated[int | None, typer.Option(help="Crops per step. Default: 4.", show_default=False)]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Highest learning rate. Default: 5e-4.", show_default=False)
]
DegradationOption = Annotated[
    str | None,
    typer.Option(
        help="How low-resolution images are made: bicubic, blind-gaussian or realnet. Default: as in the paper of the "
        "network.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(help="Seed of the initial weights and the order of the data. Default: 0.", show_default=False),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Use torch.compile for faster steps; requires a C++ compiler.")
]
VggOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="VGG19 weights of torchvision, required for a perceptual loss.", show_default=False
    ),
]
TrainingDeviceOption = Annotated[
    str | None, typer.Option(help="Device: cpu or cuda. Default: cuda if available.", show_default=False)
]


def train(
    model: NameArgument,
    scale: TrainingScaleOption,
    data: DataOption,
    val: ValidationOption,
    out: OutputOption,
    weights: WeightsOption = None,
    from_bundled: FromBundledOption = False,
    recipe: RecipeOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    degradation: DegradationOption = None,
    seed: SeedOption = None,
    compile_network: CompileOption = False,
    vgg: VggOption = None,
    device: TrainingDeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on a folder of images. Training can be interrupted and resumed."""
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr

    overrides = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "degradation": degradation,
        "seed": seed,
        "compile": compile_network or None,
    }
    with result_on_stdout(as_json) as show:
        with stage_on_stderr(LOADING_TORCH):
            from sr_edge.training import is_first_process, read_recipe, recipe_from_document, train_model

        document = read_recipe(recipe) if recipe else {}
        document.update({name: value for name, value in overrides.items() if value is not None})
        settings = recipe_from_document(document, str(recipe or "recipe"))
        if vgg is not None and not settings.perceptual_weight:
            raise UsageError(
                "--vgg has no effect without a perceptual loss in the recipe",
                found=vgg,
                wanted="a recipe with perceptual_weight",
                remedy="leave --vgg out",
            )
        start = _start(model, scale, weights, from_bundled)
        with _progress(is_first_process()) as (progress, on_event):
            report = train_model(
                model,
                scale,
                data,
                val,
                out,
                settings,
                start=start,
                threads=threads,
                device=device,
                vgg=vgg,
                progress=progress,
                on_event=on_event,
            )
        if is_first_process():
            show(report, "\n".join(_lines(report)))
            if not report.mean_psnr_db >= report.bicubic_psnr_db:  # NaN included
                on_event(_below_bicubic(report))


def _start(model: str, scale: int, weights: Path | None, from_bundled: bool) -> Path | None:
    from sr_edge.models import bundled_weights
    from sr_edge.models.registry import find_architecture

    if not from_bundled:
        return weights
    if weights is not None:
        raise UsageError(
            "--weights and --from-bundled exclude each other", found=weights, remedy="leave one of them out"
        )
    find_architecture(model)
    bundled = bundled_weights(model, scale)
    if bundled is None:
        raise UsageError(
            f"no weights of {model} x{scale} are bundled to start from",
            found=f"{model} x{scale}",
            remedy="leave --from-bundled out, or pass --weights FILE (`sr-edge models` lists what is bundled)",
        )
    return bundled


def _lines(report: TrainingReport) -> list[str]:
    from sr_edge.image_files import note_about_others

    lines = [f"{name}: {psnr_db:.2f} dB" for name, psnr_db in report.psnr_db.items()]
    skipped = [*report.skipped, *report.skipped_validation]
    lines += [f"skipped: {reason}" for reason in skipped[:SHOWN_SKIPPED]]
    if report.skipped:
        lines += [f"{len(report.skipped)} of {report.pictures + len(report.skipped)} training images were skipped"]
    if report.skipped_validation:
        lines += [f"{len(report.skipped_validation)} validation images were skipped"]
    lines += note_about_others(report.not_images)
    before = "" if report.first_psnr_db is None else f", the initial weights {report.first_psnr_db:.2f} dB"
    if not report.steps_trained:
        finished = f"the checkpoint in {report.weights.parent} has all {report.recipe.steps} steps"
        lines += [f"nothing was trained, since {finished}"]
    return [
        *lines,
        f"mean PSNR-Y {report.mean_psnr_db:.2f} dB after {report.minutes:.0f} minutes; {report.weights}",
        f"for comparison: bicubic {report.bicubic_psnr_db:.2f} dB{before}",
    ]


def _below_bicubic(report: TrainingReport) -> str:
    return (
        f"warning: {report.mean_psnr_db:.2f} dB is below the {report.bicubic_psnr_db:.2f} dB of bicubic upsampling: "
        "these weights make images worse: train longer, or again with a lower learning rate and another --output"
    )


@contextmanager
def _progress(is_reporting: bool) -> Iterator[tuple[Callable[[TrainingProgress], None], Callable[[str], None]]]:
    """Callbacks that show progress: a bar with loss, PSNR, rate and remaining time, and sentences for the user.

    Without a terminal a line is printed every minute instead of the bar.

    Args:
        is_reporting: whether this process prints anything.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = console_on(sys.stderr)
    columns = (BarColumn(bar_width=16), MofNCompleteColumn(), TextColumn("{task.fields[state]}", markup=False))
    is_shown = console.is_terminal and is_reporting
    bars = Bars(*columns, TimeRemainingColumn(), console=console, disable=not is_shown, transient=True)
    task = bars.add_task("training", total=None, state="")
    reported_s = time.monotonic()

    def report(now: TrainingProgress) -> None:
        nonlocal reported_s
        measured = "" if math.isnan(now.psnr_db) else f"  {now.psnr_db:.2f} dB"
        state = f"loss {now.loss:.4f}{measured}  {now.pictures_per_s:.1f} pictures/s"
        bars.update(task, completed=now.step, total=now.steps, state=state)
        if is_reporting and not console.is_terminal and time.monotonic() - reported_s > 60:
            reported_s = time.monotonic()
            print_line(f"step {now.step} of {now.steps}: {state}")

    def on_event(line: str) -> None:
        if is_reporting:
            console.print(one_line(line), soft_wrap=True)

    with bars:
        yield report, on_event

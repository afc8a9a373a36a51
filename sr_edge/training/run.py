"""One training, from names and folders to weights, log and curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sr_edge.errors import UsageError
from sr_edge.models import build_network, load_model
from sr_edge.models.registry import find_architecture
from sr_edge.spec import Precision
from sr_edge.training.adversarial import Adversarial
from sr_edge.training.checkpoint import training_origin
from sr_edge.training.data import SMALLEST_MEASURED_PX, CropSource, Originals, PairSet
from sr_edge.training.degradations import find_degradation
from sr_edge.training.discriminator import MULTIPLE_PX, UNetDiscriminator
from sr_edge.training.log import LOG, draw_curve, logged_minutes
from sr_edge.training.loop import WEIGHTS, Training, TrainingProgress, reporting_write_errors, run_training
from sr_edge.training.objective import Objective, PixelLoss
from sr_edge.training.processes import Processes, join_processes
from sr_edge.training.recipe import Recipe
from sr_edge.training.validation import mean_bicubic_psnr_db, mean_psnr_db, psnr_by_picture
from sr_edge.training.vgg import VGG19Features, load_vgg19
from sr_edge.whole_file import require_output_file, whole_file

CURVE = "curve.png"


@dataclass(frozen=True)
class TrainingReport:
    """What came out: PSNR-Y in dB of every validation picture, measured with the weights as saved.

    `steps_trained` are those of this call; 0 where the checkpoint was already finished. `precision` is what the last
    step was computed in, bf16 or fp32. Means to compare with: bicubic enlargement, and the weights that were begun with
    (None where none were given).
    """

    weights: Path
    steps_trained: int
    precision: Precision
    psnr_db: dict[str, float]
    mean_psnr_db: float
    bicubic_psnr_db: float
    first_psnr_db: float | None
    minutes: float
    pictures: int
    skipped: tuple[str, ...]
    skipped_validation: tuple[str, ...]
    degradation: str
    recipe: Recipe


def train_model(
    name: str,
    scale: int,
    data: Path,
    validation: Path,
    out: Path,
    recipe: Recipe,
    start: Path | None = None,
    threads: int | None = None,
    device: str | None = None,
    vgg: Path | None = None,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    on_event: Callable[[str], None] = lambda _: None,
) -> TrainingReport:
    """Trains the registered network `name` and measures the weights that were written.

    Args:
        data, validation: folders of pictures; low-resolution halves are made as the recipe says.
        out: gets checkpoint, log.csv, curve.png and weights.safetensors; a checkpoint there is continued.
        start: weights to begin with; None begins with random ones, decided by the recipe's seed.
        device: "cpu" or "cuda"; None takes CUDA where it is. Started by torchrun, every process calls this.
        vgg: torchvision's VGG19, which a recipe with a perceptual loss needs.
        progress: called after every step.
        on_event: called before the first step with warnings, such as a precision that the device does not support.

    Raises:
        UnknownNameError, UsageError: no such network, scale, degradation or device, or `out` cannot be written.
        TrainingError: no usable pictures, the loss diverged, or `out` holds another training's checkpoint.
        TrainingInterrupted: Ctrl-C; all steps are saved.
    """
    _require_output_folder(out)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    features = load_vgg19(vgg) if recipe.perceptual_weight else None
    network = _initial_network(name, scale, start)
    architecture, _ = find_architecture(name)
    degradation = find_degradation(recipe.degradation, architecture)
    smallest_lr_px = _smallest_lr_px(name, recipe)
    tests = PairSet.from_folder(validation, scale, degradation, max(SMALLEST_MEASURED_PX, smallest_lr_px))
    originals = Originals.from_folder(data, scale, recipe.patch_px)
    needed_vgg = vgg if features else None
    origin = training_origin(f"{name} x{scale}", data, validation, degradation.name, start, needed_vgg)
    first_psnr_db = mean_psnr_db(network, tests) if start else None
    with join_processes(device) as processes:
        crops = CropSource(originals, degradation)
        training = Training(crops, tests, out, recipe, progress, processes, origin, on_event, architecture.paired_input)
        trained = run_training(network, training, _objective(recipe, scale, features, processes))
    if processes.is_first:
        with reporting_write_errors(out / CURVE), whole_file(out / CURVE) as unfinished:
            draw_curve(out / LOG, unfinished, f"{name} x{scale}")
    psnr_db = psnr_by_picture(load_model(name, scale, trained.weights).module, tests)
    return TrainingReport(
        weights=trained.weights,
        steps_trained=trained.steps,
        precision=trained.precision,
        psnr_db=psnr_db,
        mean_psnr_db=sum(psnr_db.values()) / len(psnr_db),
        bicubic_psnr_db=mean_bicubic_psnr_db(tests),
        first_psnr_db=first_psnr_db,
        minutes=logged_minutes(out / LOG),
        pictures=len(originals.pictures),
        skipped=originals.skipped,
        skipped_validation=tests.skipped,
        degradation=degradation.name,
        recipe=recipe,
    )


def _smallest_lr_px(name: str, recipe: Recipe) -> int:
    """The side of the smallest picture that the network can mirror up to its windows or levels."""
    smallest = find_architecture(name)[0].multiple_px // 2 + 1
    if recipe.patch_px < smallest:
        raise UsageError(
            f"patch_px is {recipe.patch_px}, which is too small for {name}",
            found=recipe.patch_px,
            wanted=smallest,
            remedy=f"use {smallest} or more",
        )
    return smallest


def _objective(recipe: Recipe, scale: int, features: VGG19Features | None, processes: Processes) -> Objective:
    if not recipe.perceptual_weight and not recipe.adversarial_weight:
        return PixelLoss(recipe.l1_weight, recipe.l2_weight)
    if recipe.adversarial_weight and processes.count > 1:
        raise UsageError(
            f"adversarial training runs in one process, not in {processes.count}",
            found=processes.count,
            wanted=1,
            remedy="start it without torchrun",
        )
    if recipe.adversarial_weight and recipe.patch_px * scale % MULTIPLE_PX:
        raise UsageError(
            f"patch_px x scale is {recipe.patch_px} x {scale}, which is not a multiple of {MULTIPLE_PX}, as the "
            "discriminator needs",
            found=recipe.patch_px * scale,
            wanted=MULTIPLE_PX,
            remedy="set patch_px for example to 48",
        )
    discriminator = UNetDiscriminator().to(processes.device) if recipe.adversarial_weight else None
    return Adversarial(recipe, discriminator, features.to(processes.device) if features else None)


def _initial_network(name: str, scale: int, start: Path | None) -> nn.Module:
    if start:
        return load_model(name, scale, start).module.requires_grad_(True)
    network = build_network(name, scale)
    initialize = find_architecture(name)[0].initialize
    if initialize is not None:
        initialize(network)
    return network


def _require_output_folder(out: Path) -> None:
    """Raises UsageError unless the folder `out` is there or can be made, and can be written to; makes nothing."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise UsageError(
            f"{out} cannot be a folder, since {nearest} is a file",
            found=nearest,
            wanted="a folder",
            remedy="choose another --out",
        )
    require_output_file(nearest / WEIGHTS)

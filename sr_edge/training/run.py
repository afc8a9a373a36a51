"""Runs a complete training of a registered network: reads the data, trains, and writes weights, log and curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.models import build_network, load_model
from sr_edge.models.registry import find_architecture
from sr_edge.spec import Precision
from sr_edge.training.checkpoint import training_origin
from sr_edge.training.data import SMALLEST_MEASURED_PX, CropSource, Originals, PairSet
from sr_edge.training.degradations import find_degradation
from sr_edge.training.log import LOG, draw_curve, logged_minutes
from sr_edge.training.loop import (
    WEIGHTS,
    Training,
    TrainingProgress,
    TrainingResult,
    reporting_write_errors,
    run_training,
)
from sr_edge.training.losses.adversarial import Adversarial
from sr_edge.training.losses.discriminator import MULTIPLE_PX, UNetDiscriminator
from sr_edge.training.losses.objective import Objective, PixelLoss
from sr_edge.training.losses.vgg import VGG19Features, load_vgg19
from sr_edge.training.processes import Processes, join_processes
from sr_edge.training.recipe import Recipe
from sr_edge.training.validation import mean_bicubic_psnr_db, mean_psnr_db, psnr_by_picture

CURVE = "curve.png"


@dataclass(frozen=True)
class TrainingReport:
    """The result of a training, measured with the saved weights.

    Args:
        weights: the safetensors file.
        steps_trained: number of steps of this call; 0 where the checkpoint was already finished.
        precision: precision of the last step, bf16 or fp32.
        psnr_db: PSNR-Y in dB of every validation image, by name.
        mean_psnr_db: their mean.
        bicubic_psnr_db: the mean for bicubic upsampling.
        first_psnr_db: the mean for the weights with which the training started; None for random ones.
        minutes: duration of the training.
        pictures: number of training images.
        skipped: training images that could not be used, with the reason.
        skipped_validation: validation images that could not be used, with the reason.
        not_images: files in both folders that are not images.
        degradation: name of the degradation.
        recipe: the settings.
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
    not_images: tuple[Path, ...]
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
    """Trains a registered network and measures the weights that were written.

    With torchrun, every process calls this function.

    Args:
        name: name of the network.
        scale: upscaling factor.
        data: folder of training images, from which the degradation of the recipe makes low-resolution ones.
        validation: folder of validation images.
        out: folder of checkpoint, log.csv, curve.png and weights.safetensors; a checkpoint there is continued.
        recipe: the settings.
        start: weights to start with; None starts with random ones, determined by the recipe's seed.
        threads: number of CPU threads of torch; None keeps torch's setting.
        device: "cpu" or "cuda"; None uses CUDA where it is available.
        vgg: weights of torchvision's VGG19, which a recipe with a perceptual loss needs.
        progress: called after every step.
        on_event: called before the first step with warnings, such as a precision that the device does not support.

    Raises:
        UnknownNameError: there is no network or degradation of that name.
        UsageError: the scale or device is not available, or `out` cannot be written.
        TrainingError: no image is usable, the loss diverged, or `out` contains another training's checkpoint.
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
    pairs = PairSet.from_folder(validation, scale, degradation, max(SMALLEST_MEASURED_PX, smallest_lr_px))
    originals = Originals.from_folder(data, scale, recipe.patch_px)
    origin = training_origin(f"{name} x{scale}", data, validation, degradation.name, start, vgg if features else None)
    first_psnr_db = mean_psnr_db(network, pairs) if start else None
    with join_processes(device) as processes:
        crops = CropSource(originals, degradation)
        training = Training(crops, pairs, out, recipe, progress, processes, origin, on_event, architecture.paired_input)
        trained = run_training(network, training, _objective(recipe, scale, features, processes))
    if processes.is_first:
        with reporting_write_errors(out / CURVE), whole_file(out / CURVE) as unfinished:
            draw_curve(out / LOG, unfinished, f"{name} x{scale}")
    psnr_db = psnr_by_picture(load_model(name, scale, trained.weights).module, pairs)
    return _report(trained, psnr_db, first_psnr_db, originals, pairs, out, degradation.name, recipe)


def _report(
    trained: TrainingResult,
    psnr_db: dict[str, float],
    first_psnr_db: float | None,
    originals: Originals,
    pairs: PairSet,
    out: Path,
    degradation: str,
    recipe: Recipe,
) -> TrainingReport:
    return TrainingReport(
        weights=trained.weights,
        steps_trained=trained.steps,
        precision=trained.precision,
        psnr_db=psnr_db,
        mean_psnr_db=sum(psnr_db.values()) / len(psnr_db),
        bicubic_psnr_db=mean_bicubic_psnr_db(pairs),
        first_psnr_db=first_psnr_db,
        minutes=logged_minutes(out / LOG),
        pictures=len(originals.pictures),
        skipped=originals.skipped,
        skipped_validation=pairs.skipped,
        not_images=(*originals.not_images, *pairs.not_images),
        degradation=degradation,
        recipe=recipe,
    )


def _smallest_lr_px(name: str, recipe: Recipe) -> int:
    """The smallest height and width that the network can pad by reflection to its windows or levels."""
    smallest_px = find_architecture(name)[0].multiple_px // 2 + 1
    if recipe.patch_px < smallest_px:
        raise UsageError(
            f"patch_px is {recipe.patch_px}, which is too small for {name}",
            found=recipe.patch_px,
            wanted=smallest_px,
            remedy=f"use {smallest_px} or more",
        )
    return smallest_px


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
    """Raises UsageError unless the folder exists or can be created, and is writable; it is not created."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise UsageError(
            f"{out} cannot be a folder, since {nearest} is a file",
            found=nearest,
            wanted="a folder",
            remedy="choose another --output",
        )
    require_output_file(nearest / WEIGHTS)

"""Short trainings for the tests."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sr_edge.models import build_network
from sr_edge.training import Recipe
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.loop import Training, TrainingProgress

RECIPE = Recipe(
    steps=12,
    batch=2,
    patch_px=16,
    warm_up_steps=2,
    ema_decay=0.5,
    mixed_precision=False,
    compile=False,
    validate_every=6,
    checkpoint_every=3,
)


def training(
    pictures: Path, out: Path, recipe: Recipe = RECIPE, progress: Callable[[TrainingProgress], None] = lambda _: None
) -> Training:
    crops = CropSource(Originals.from_folder(pictures, 2, 16))
    return Training(crops, PairSet.from_folder(pictures, 2), out, recipe, progress)


def network() -> nn.Module:
    torch.manual_seed(3)
    return build_network("convnet-tiny", 2)


def ask_to_stop(number: signal.Signals, at_step: int) -> Callable[[object], None]:
    """A progress callback that sends this process a signal after one step."""

    def send(progress: object) -> None:
        if getattr(progress, "step", 0) == at_step:
            signal.raise_signal(number)

    return send

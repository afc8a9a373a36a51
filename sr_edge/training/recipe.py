"""A training recipe: all settings that determine the result of a training, as a frozen value read from JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sr_edge.errors import UsageError
from sr_edge.spec import take_names

LOSS_WEIGHTS = ("l1_weight", "l2_weight", "perceptual_weight", "adversarial_weight")
NOT_NEGATIVE = ("weight_decay", "halve_every", "warm_up_steps", *LOSS_WEIGHTS, "seed")


class OptimizerName(str, Enum):
    """Adam, or AdamW, whose weight decay is decoupled from the gradient."""

    ADAM = "adam"
    ADAMW = "adamw"

    def __str__(self) -> str:
        return self.value


class Schedule(str, Enum):
    """Learning rate schedule: cosine decay to zero, or half the rate after every `halve_every` steps."""

    COSINE = "cosine"
    STEP = "step"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; by default L1 loss, Adam, warm-up, cosine decay, and EMA of the weights.

    Args:
        steps: optimiser steps.
        batch: crops in each step.
        patch_px: height and width of a low-resolution crop.
        degradation: name of a degradation of `sr_edge.training.degradations`; empty takes that of the network's paper.
        optimizer: the optimiser.
        learning_rate: the highest learning rate.
        weight_decay: weight decay of AdamW.
        schedule: schedule of the learning rate after the warm-up.
        halve_every: steps after which the step schedule halves the learning rate.
        warm_up_steps: steps of linear warm-up.
        clip_norm: largest norm of the gradient.
        ema_decay: decay of the moving average of the weights.
        l1_weight: weight of the mean absolute error.
        l2_weight: weight of the mean squared error.
        perceptual_weight: weight of the perceptual loss.
        adversarial_weight: weight of the adversarial loss.
        seed: seed of the initial weights and of the order of the data.
        mixed_precision: run the forward pass under bfloat16 autocast where the device supports bfloat16.
        compile: run the network through torch.compile, which needs a C++ compiler and a minute at the start.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.

    Raises:
        UsageError: a setting is out of range, or two contradict each other.
    """

    steps: int = 6000
    batch: int = 4
    patch_px: int = 48
    degradation: str = ""
    optimizer: OptimizerName = OptimizerName.ADAM
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.COSINE
    halve_every: int = 0
    warm_up_steps: int = 200
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    l1_weight: float = 1.0
    l2_weight: float = 0.0
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    seed: int = 0
    mixed_precision: bool = True
    compile: bool = False
    validate_every: int = 500
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        take_names(self, optimizer=OptimizerName, schedule=Schedule)
        for name in ("steps", "batch", "patch_px", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise self._refused(name, "at least 1", "use 1 or more")
        if not 0 < self.learning_rate < 1:
            raise self._refused("learning_rate", "between 0 and 1", "use a value such as 1e-3")
        if not 0 <= self.ema_decay < 1:
            raise self._refused("ema_decay", "at least 0 and below 1", "use a value such as 0.999")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:  # NaN included
                raise self._refused(name, "at least 0 and finite", "use 0 or more")
        if not self.clip_norm > 0:
            raise self._refused("clip_norm", "above 0", "use 1, or 1e9 for no clipping (0 would stop learning)")
        losses = {name: getattr(self, name) for name in LOSS_WEIGHTS}
        if not sum(losses.values()) > 0:
            raise UsageError(
                f"recipe: {', '.join(LOSS_WEIGHTS)} are all 0, so there is no loss",
                found=losses,
                wanted="above 0",
                remedy="set one of them, for example l1_weight to 1",
            )
        if (self.schedule is Schedule.STEP) != (self.halve_every > 0):
            raise UsageError(
                f"recipe: the schedule is {str(self.schedule)!r} and halve_every is {self.halve_every}",
                found={"schedule": str(self.schedule), "halve_every": self.halve_every},
                wanted={"schedule": str(Schedule.STEP), "halve_every": "at least 1"},
                remedy="give the step schedule and halve_every (a number of steps) together, or neither",
            )
        if self.weight_decay and self.optimizer is OptimizerName.ADAM:
            raise UsageError(
                f"recipe: weight_decay is {self.weight_decay}, but the optimizer is {str(self.optimizer)!r}",
                found={"weight_decay": self.weight_decay, "optimizer": str(self.optimizer)},
                wanted={"optimizer": str(OptimizerName.ADAMW)},
                remedy='choose the optimizer "adamw", or leave weight_decay out',
            )

    def _refused(self, name: str, wanted: str, remedy: str) -> UsageError:
        number = getattr(self, name)
        return UsageError(
            f"recipe: {name} is {number}, but must be {wanted}", found={name: number}, wanted=wanted, remedy=remedy
        )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, which counts from 0."""
        warm_up = min(1.0, (step + 1) / max(1, self.warm_up_steps))
        if self.schedule is Schedule.STEP:
            return self.learning_rate * warm_up * float(0.5 ** (step // self.halve_every))
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def document(self) -> dict[str, Any]:
        """The recipe as a dict of plain values, which `recipe_from_document` reads."""
        return {name: str(v) if isinstance(v, Enum) else v for name, v in dataclasses.asdict(self).items()}


def read_recipe(path: Path) -> dict[str, Any]:
    """Reads the settings of a recipe from a JSON file, for `recipe_from_document`.

    Raises:
        UsageError: the file is missing, or does not contain a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the recipe {path}: {error.strerror}",
            found=path,
            wanted="a readable file",
            remedy="give a JSON file",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not valid JSON ({error})",
            found=path,
            wanted="JSON",
            remedy='write for example {"steps": 6000}',
        ) from error
    if not isinstance(document, dict):
        raise UsageError(
            f"{path} contains a {type(document).__name__} instead of an object",
            found=type(document).__name__,
            wanted="dict",
            remedy='write an object, for example {"steps": 6000}',
        )
    return document


def recipe_from_document(document: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Builds a recipe from a dict; settings that are left out have their defaults.

    Args:
        document: settings by name.
        source: what error messages call the document, usually the path of its file.

    Raises:
        UsageError: a name is unknown, or a value has another type or is out of range.
    """
    defaults = Recipe()
    names = [field.name for field in dataclasses.fields(Recipe)]
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1, 0.5)
            raise UsageError(
                f"{source} has an unknown entry {name!r}",
                found=name,
                wanted=nearest or names,
                remedy=f"did you mean {nearest[0]}?" if nearest else f"choose one of: {', '.join(names)}",
            )
        values[name] = _as_type_of(getattr(defaults, name), name, value, source)
    return Recipe(**values)


def _as_type_of(default: object, name: str, value: object, source: str) -> object:
    if isinstance(default, Enum):
        choices = [str(member) for member in type(default)]
        if value not in choices:
            raise UsageError(
                f"{source}: {name} is {value!r}, which is unknown",
                found={name: value},
                wanted=choices,
                remedy=f"choose one of: {', '.join(choices)}",
            )
        return type(default)(value)
    fits = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[type(default)]
        raise UsageError(
            f"{source}: {name} is {value!r}, but must be {kind}",
            found={name: value},
            wanted=kind,
            remedy=f"write {kind}",
        )
    return value

"""A training recipe: every number that decides what is learnt, in one frozen value that a JSON file can hold."""

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

LOSS_WEIGHTS = ("l1_weight", "l2_weight", "perceptual_weight", "adversarial_weight")
NOT_NEGATIVE = ("weight_decay", "halve_every", "warm_up_steps", *LOSS_WEIGHTS, "seed")


class OptimizerName(str, Enum):
    """Adam, or AdamW, whose weight decay stands beside the gradient."""

    ADAM = "adam"
    ADAMW = "adamw"

    def __str__(self) -> str:
        return self.value


class Schedule(str, Enum):
    """Cosine from the highest rate to zero, or half the rate after every `halve_every` steps."""

    COSINE = "cosine"
    STEP = "step"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Recipe:
    """L1 on random LR crops, Adam, linear warm-up then cosine decay to zero, EMA of the weights, unless said otherwise.

    `mixed_precision` runs the forward pass under bfloat16 autocast where the device has bfloat16; `compile` passes the
    network through torch.compile (needs a C++ compiler; a minute at the start, then faster steps). `degradation` is a
    name of `sr_edge.training.degradations`; empty takes the one of the network's paper. The loss is the sum of its
    parts by their weights: L1 and L2 of pixels and, as for RealNet-GAN, perceptual and adversarial.

    Raises:
        UsageError: a number that makes no training.
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
            raise self._refused("clip_norm", "above 0", "use 1, or 1e9 for no clipping (at 0 nothing would be learnt)")
        losses = {name: getattr(self, name) for name in LOSS_WEIGHTS}
        if not sum(losses.values()) > 0:
            raise UsageError(
                f"recipe: {', '.join(LOSS_WEIGHTS)} are all 0, so that nothing would be learnt",
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
        """The rate of step 0 … steps - 1."""
        warm_up = min(1.0, (step + 1) / max(1, self.warm_up_steps))
        if self.schedule is Schedule.STEP:
            return self.learning_rate * warm_up * float(0.5 ** (step // self.halve_every))
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def document(self) -> dict[str, Any]:
        """The recipe as plain data, which `recipe_from_document` reads."""
        return {name: str(v) if isinstance(v, Enum) else v for name, v in dataclasses.asdict(self).items()}


def read_recipe(path: Path) -> dict[str, Any]:
    """What a JSON file says of a recipe, for `recipe_from_document`.

    Raises:
        UsageError: missing, or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
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
    if not isinstance(found, dict):
        raise UsageError(
            f"{path} contains a {type(found).__name__} instead of an object",
            found=type(found).__name__,
            wanted="dict",
            remedy='write an object, for example {"steps": 6000}',
        )
    return found


def recipe_from_document(document: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe with these values, the others as they are by default.

    Raises:
        UsageError: an unknown name (the nearest known one is told), a value of another type, or one out of range.
    """
    defaults = Recipe()
    known = [field.name for field in dataclasses.fields(Recipe)]
    values: dict[str, Any] = {}
    for name, found in document.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0.5)
            raise UsageError(
                f"{source} has an unknown entry {name!r}",
                found=name,
                wanted=nearest or known,
                remedy=f"did you mean {nearest[0]}?" if nearest else f"choose one of: {', '.join(known)}",
            )
        values[name] = _as_type_of(getattr(defaults, name), name, found, source)
    return Recipe(**values)


def _as_type_of(default: object, name: str, found: object, source: str) -> object:
    if isinstance(default, Enum):
        choices = [str(member) for member in type(default)]
        if found not in choices:
            raise UsageError(
                f"{source}: {name} is {found!r}, which is unknown",
                found={name: found},
                wanted=choices,
                remedy=f"choose one of: {', '.join(choices)}",
            )
        return type(default)(found)
    fits = isinstance(found, type(default)) and isinstance(found, bool) == isinstance(default, bool)
    if isinstance(default, float) and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    if not fits:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[type(default)]
        raise UsageError(
            f"{source}: {name} is {found!r}, but must be {kind}",
            found={name: found},
            wanted=kind,
            remedy=f"write {kind}",
        )
    return found

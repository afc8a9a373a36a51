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

NOT_NEGATIVE = (
    "weight_decay",
    "halve_every",
    "warm_up_steps",
    "l1_weight",
    "l2_weight",
    "perceptual_weight",
    "adversarial_weight",
    "seed",
)


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
                raise UsageError(f"recipe: {name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"recipe: learning_rate is {self.learning_rate}; use a value such as 1e-3")
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"recipe: ema_decay is {self.ema_decay}; use 0 or more and less than 1, such as 0.999")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:  # NaN included
                raise UsageError(f"recipe: {name} is {getattr(self, name)}; it must be 0 or more, and finite")
        if not self.clip_norm > 0:
            raise UsageError(f"recipe: clip_norm is {self.clip_norm}, which stops all learning; use 1, or 1e9 for none")
        if not self.l1_weight + self.l2_weight + self.perceptual_weight + self.adversarial_weight > 0:
            raise UsageError("recipe: l1_weight, l2_weight and the two others are all 0; nothing is learnt")
        if (self.schedule is Schedule.STEP) != (self.halve_every > 0):
            raise UsageError("recipe: the step schedule and halve_every (a number of steps) go together; give both")
        if self.weight_decay and self.optimizer is OptimizerName.ADAM:
            raise UsageError('recipe: weight_decay is for the optimizer "adamw"; choose it, or leave the decay out')

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
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}; give a JSON file") from error
    except ValueError as error:
        raise UsageError(f'{path} is no JSON ({error}); write for example {{"steps": 6000}}') from error
    if not isinstance(found, dict):
        raise UsageError(f'{path} holds a {type(found).__name__}; write an object, for example {{"steps": 6000}}')
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
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
            raise UsageError(f"{source}: there is no {name!r}; {hint}")
        values[name] = _as_type_of(getattr(defaults, name), name, found, source)
    return Recipe(**values)


def _as_type_of(default: object, name: str, found: object, source: str) -> object:
    if isinstance(default, Enum):
        choices = [str(member) for member in type(default)]
        if found not in choices:
            raise UsageError(f"{source}: {name} is {found!r}; choose one of: {', '.join(choices)}")
        return type(default)(found)
    fits = isinstance(found, type(default)) and isinstance(found, bool) == isinstance(default, bool)
    if isinstance(default, float) and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    if not fits:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(default)]
        raise UsageError(f"{source}: {name} is {found!r}; it must be {kind}")
    return found

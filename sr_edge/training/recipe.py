"""A training recipe: every number that decides what is learnt, in one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sr_edge.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """L1 on random LR crops, Adam, linear warm-up then cosine decay to zero, EMA of the weights.

    `mixed_precision` runs the forward pass under bfloat16 autocast; `compile` passes the network through
    torch.compile (needs a C++ compiler; a minute at the start, then faster steps).
    """

    steps: int = 6000
    batch: int = 4
    patch_px: int = 48
    learning_rate: float = 5e-4
    warm_up_steps: int = 200
    clip_norm: float = 1.0
    ema_decay: float = 0.999
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

    def learning_rate_at(self, step: int) -> float:
        """The rate of step 0 … steps - 1."""
        warm_up = min(1.0, (step + 1) / max(1, self.warm_up_steps))
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))

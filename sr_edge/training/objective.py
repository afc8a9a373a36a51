"""What a training makes small."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional


class Objective(Protocol):
    """A loss, and what learns beside the network (a discriminator); its state goes into the checkpoint."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The number to make small, of float32 pictures (batch, 3, height, width) in [0, 1]."""
        ...

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Follows after the network's step, with the pictures that the step was made of, cut from their graph."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class PixelLoss:
    """An `Objective`: the mean absolute error and the mean squared one, each with a weight; 0 leaves its part out."""

    def __init__(self, l1_weight: float = 1.0, l2_weight: float = 0.0) -> None:
        self.l1_weight = l1_weight
        self.l2_weight = l2_weight

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        total = prediction.new_zeros(())
        if self.l1_weight:
            total = total + self.l1_weight * functional.l1_loss(prediction, target)
        if self.l2_weight:
            total = total + self.l2_weight * functional.mse_loss(prediction, target)
        return total

    def update(self, prediction: Tensor, target: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

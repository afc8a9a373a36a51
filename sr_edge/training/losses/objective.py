"""The objective of a training, and the pixel losses."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional


class Objective(Protocol):
    """The loss of a training, with a second model that is trained alongside, such as a discriminator.

    Its state is stored in the checkpoint.
    """

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar to minimise, for float32 images (batch, 3, height, width) in [0, 1]."""
        ...

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Trains the second model after the network's step, with the detached images of that step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class PixelLoss:
    """An `Objective` of mean absolute and mean squared error; an error whose weight is 0 is not computed."""

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

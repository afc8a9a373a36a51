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

    def learn(self, prediction: Tensor, target: Tensor) -> None:
        """Follows after the network's step, with the pictures that the step was made of, cut from their graph."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class L1:
    """The mean absolute error."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return functional.l1_loss(prediction, target)

    def learn(self, prediction: Tensor, target: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

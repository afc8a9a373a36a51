"""The objective of RealNet-GAN: pixel, perceptual and adversarial loss, and the training of the discriminator.

Source: arXiv 2408.00470, equation 20. Train with L1 first, then start from those weights (`--weights`) with a recipe
that sets the three loss weights. The paper's values are missing in the text that is available to us; Real-ESRGAN uses
1, 1 and 0.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from sr_edge.training.losses.objective import PixelLoss
from sr_edge.training.losses.vgg import VGG19Features, perceptual_loss
from sr_edge.training.recipe import Recipe


class Adversarial:
    """An `Objective` of pixel, perceptual and adversarial loss; a loss whose weight is 0 is not computed.

    Args:
        recipe: the weights of the losses, and the learning rate of the discriminator.
        discriminator: maps images to logits, above 0 for original images; None without an adversarial loss.
        features: features of the perceptual loss; None without one.
    """

    def __init__(self, recipe: Recipe, discriminator: nn.Module | None, features: VGG19Features | None) -> None:
        self.recipe = recipe
        self.pixels = PixelLoss(recipe.l1_weight, recipe.l2_weight)
        self.discriminator = discriminator
        self.features = features
        self.optimizer = Adam(discriminator.parameters(), lr=recipe.learning_rate) if discriminator else None

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        total = self.pixels.loss(prediction, target)
        if self.features:
            total = total + self.recipe.perceptual_weight * perceptual_loss(self.features, prediction, target)
        if self.discriminator:
            self.discriminator.requires_grad_(False)
            total = total + self.recipe.adversarial_weight * _adversarial_loss(
                self.discriminator(prediction), is_real=True
            )
        return total

    def update(self, prediction: Tensor, target: Tensor) -> None:
        if self.discriminator is None or self.optimizer is None:
            return
        self.discriminator.requires_grad_(True)
        fake_loss = _adversarial_loss(self.discriminator(prediction), is_real=False)
        loss = _adversarial_loss(self.discriminator(target), is_real=True) + fake_loss
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        if self.discriminator is None or self.optimizer is None:
            return {}
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.discriminator is not None and self.optimizer is not None:
            self.discriminator.load_state_dict(state["discriminator"])
            self.optimizer.load_state_dict(state["optimizer"])


def _adversarial_loss(logits: Tensor, is_real: bool) -> Tensor:
    labels = torch.ones_like(logits) if is_real else torch.zeros_like(logits)
    return functional.binary_cross_entropy_with_logits(logits, labels)

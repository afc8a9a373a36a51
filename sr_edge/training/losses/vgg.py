"""The perceptual loss: the difference of two images in features of VGG19, with weights from a user's file.

Source: arXiv 2408.00470, section II-D: features of conv1 to conv5 before activation. The paper's weights of the five
are missing in the text that is available to us; those of Real-ESRGAN (0.1, 0.1, 1, 1, 1) are used, on which the section
builds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import read_weights

WIDTHS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of each stage; features are those of a stage's last convolution."""

STAGE_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19Features(nn.Module):
    """The convolutions of VGG19 under the keys of torchvision: features.0 ... features.34, with ReLU and max pooling.

    Args:
        widths: channels and number of convolutions of each stage; other values than the published ones are for tests.
    """

    def __init__(self, widths: tuple[tuple[int, int], ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.feature_indices: list[int] = []
        channels = 3
        for width, convolutions in widths:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.feature_indices.append(len(layers) - 2)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[: self.feature_indices[-1] + 1])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features before activation of RGB (batch, 3, height, width) in [0, 1], one tensor for each stage."""
        x = (image - self.get_buffer("mean")) / self.get_buffer("deviation")
        features = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.feature_indices:
                features.append(x)
        return features


def load_vgg19(path: Path | None, widths: tuple[tuple[int, int], ...] = WIDTHS) -> VGG19Features:
    """Loads the convolutions of torchvision's vgg19 state_dict.

    Args:
        path: the file; None raises UsageError.
        widths: see `VGG19Features`.

    Raises:
        UsageError: no file was given.
        WeightsError: the file is unreadable or not VGG19 in that layout.
    """
    if path is None:
        raise UsageError(
            "a perceptual loss needs the weights of VGG19, which are not part of this project",
            wanted="--vgg FILE",
            remedy='pass --vgg FILE with torchvision\'s vgg19 state_dict, or set "perceptual_weight": 0 in the recipe',
        )
    network = VGG19Features(widths)
    expected = network.state_dict()
    state = {key: value for key, value in read_weights(path).items() if key in expected}
    mismatches = [key for key in expected if key not in state or state[key].shape != expected[key].shape]
    if mismatches:
        raise WeightsError(
            f"{path} is not VGG19 in torchvision's layout: {len(mismatches)} tensors are missing or of another shape, "
            f"the first is {mismatches[0]} {tuple(expected[mismatches[0]].shape)}",
            found=mismatches,
            wanted="VGG19 in torchvision's layout",
            remedy="save vgg19().state_dict() of torchvision",
        )
    network.load_state_dict(state)
    return network.eval()


def perceptual_loss(network: VGG19Features, prediction: Tensor, target: Tensor) -> Tensor:
    """The weighted sum of the mean absolute differences of all stages."""
    with torch.no_grad():
        references = network(target)
    pairs = zip(network(prediction), references, strict=True)
    terms = [functional.l1_loss(features, reference) for features, reference in pairs]
    return torch.stack([weight * term for weight, term in zip(STAGE_WEIGHTS, terms, strict=True)]).sum()

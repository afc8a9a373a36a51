"""GELU spelled so that simplification leaves it whole for the runtimes to fuse.

torch's exporter ends GELU in a product with 1/2. In front of a convolution onnxsim folds that product into the
weights, and what is left is no pattern that ONNX Runtime or OpenVINO know: four passes over the plane instead of
one kernel. With the half taken first, x is still used twice and nothing can be folded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class HalvedGelu(nn.Module):
    """(x/2) (1 + erf(x / √2)): exactly `nn.GELU()`."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0.5) * (1 + torch.erf(x / math.sqrt(2)))

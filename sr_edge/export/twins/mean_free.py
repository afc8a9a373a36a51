"""LayerNorm over channels without subtracting the mean: in the reflected basis the mean is one of the coordinates.

A Householder reflection Q = I - 2 n nᵀ sends the direction of the mean, (1, …, 1)/√C, to the first axis. With
x' = Q x, centring x means dropping x'₀, so

    LayerNorm(x) = diag(gamma) Q (x' with x'₀ = 0) / sqrt(sum_{c>0} x'_c² / C + eps) + beta

Nothing is subtracted at run time, so there is no cancellation: a large common offset changes x'₀ only and costs
the other coordinates no precision in float16, bfloat16 or INT8. Q is folded into the weights of the neighbouring
convolutions and costs nothing at run time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.export.twins.affine import biases, with_weights


def mean_reflection(channels: int) -> Tensor:
    """Q, symmetric and orthogonal, (channels, channels) in float64: the mean direction becomes axis 0."""
    direction = torch.full((channels,), channels**-0.5, dtype=torch.float64)
    normal = direction.clone()
    normal[0] -= 1
    if channels == 1:
        return torch.eye(1, dtype=torch.float64)
    normal /= normal.norm()
    return torch.eye(channels, dtype=torch.float64) - 2 * torch.outer(normal, normal)


def reflect_output(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy of `conv` whose output is multiplied by Q."""
    reflection = mean_reflection(conv.out_channels)
    weight = torch.einsum("oi,ijhw->ojhw", reflection, conv.weight.double())
    return with_weights(conv, weight, reflection @ biases(conv))


def reflect_input(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy of `conv` whose input is in the reflected basis, that is, multiplied by Q."""
    weight = torch.einsum("oihw,ij->ojhw", conv.weight.double(), mean_reflection(conv.in_channels))
    return with_weights(conv, weight, biases(conv))


def reflected_map(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of `linear` with its output multiplied by Q."""
    reflection = mean_reflection(linear.out_features)
    return reflection @ linear.weight.double(), reflection @ linear.bias.double()


def fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Folds gamma and beta of `norm`, and Q, into the linear map that follows it.

    Returns:
        Weight (out, in) and bias in float64, for the output of `MeanFreeNorm`; the column of the mean's coordinate is
        zero.
    """
    gamma, beta = norm.weight.double(), norm.bias.double()
    folded = (weight.double() * gamma) @ mean_reflection(norm.weight.numel())
    folded[:, 0] = 0
    return folded, bias.double() + weight.double() @ beta


class InverseStd(nn.Module):
    """1 / sqrt(sum_{c>0} x'_c² / C + eps) per pixel; computed in float32 in graphs of every precision."""

    selector: Tensor

    def __init__(self, channels: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        selector = torch.full((1, channels, 1, 1), 1 / channels, dtype=dtype)
        selector[:, 0] = 0
        self.register_buffer("selector", selector)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return 1 / torch.sqrt(functional.conv2d(x * x, self.selector) + self.eps)


class MeanFreeNorm(nn.Module):
    """Normalises every pixel of (batch, C, h, w), in the reflected basis, to zero mean and unit variance."""

    keep: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        channels, dtype = norm.weight.numel(), norm.weight.dtype
        keep = torch.ones(1, channels, 1, 1, dtype=dtype)
        keep[:, 0] = 0
        self.register_buffer("keep", keep)
        self.fp32_inverse_std = InverseStd(channels, norm.eps, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fp32_inverse_std(x) * self.keep

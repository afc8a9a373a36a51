"""Affine maps of channels in float64: how consecutive 1x1 convolutions are composed into a single one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError


@dataclass(frozen=True)
class Affine:
    """The map x -> weight x + bias, with `weight` (out, in) and `bias` (out,) in float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def from_layer(cls, layer: nn.Module) -> Affine:
        """The map that a 1x1 convolution, or a sequence of them, computes."""
        if isinstance(layer, nn.Conv2d):
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
            return cls(layer.weight.detach().double()[:, :, 0, 0], bias.double())
        first, *others = layer.children()
        composed = cls.from_layer(first)
        for other in others:
            composed = cls.from_layer(other).after(composed)
        return composed

    @classmethod
    def identity(cls, channels: int) -> Affine:
        return cls(torch.eye(channels).double(), torch.zeros(channels).double())

    def after(self, inner: Affine) -> Affine:
        """The composition x -> self(inner(x))."""
        return Affine(self.weight @ inner.weight, self.weight @ inner.bias + self.bias)

    def scaled(self, factor: float) -> Affine:
        return Affine(self.weight * factor, self.bias * factor)

    def split(self, sizes: Sequence[int]) -> list[Affine]:
        """Splits the input channels into groups of `sizes`: one map for each group, whose results add up to this map's.

        The first of them has the bias.
        """
        no_bias = torch.zeros_like(self.bias)
        weights = torch.split(self.weight, list(sizes), dim=1)
        return [Affine(weight, no_bias if index else self.bias) for index, weight in enumerate(weights)]

    def to_conv(self, dtype: torch.dtype) -> nn.Conv2d:
        return pointwise(self.weight, self.bias, dtype)


def sum_of_maps(maps: Sequence[Affine]) -> Affine:
    """The map that takes the concatenated inputs of several maps to the sum of their results."""
    return Affine(torch.cat([each.weight for each in maps], dim=1), torch.stack([each.bias for each in maps]).sum(0))


class ConcatenatedConv(nn.Module):
    """A 1x1 convolution of several concatenated feature maps.

    Args:
        planes: The module that returns the list of feature maps.
        tail: The affine map of their concatenation.
        dtype: The type of the convolution's weights.
    """

    def __init__(self, planes: nn.Module, tail: Affine, dtype: torch.dtype) -> None:
        super().__init__()
        self.planes = planes
        self.tail = tail.to_conv(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.cat(self.planes(x), dim=1))


def biases(conv: nn.Conv2d) -> Tensor:
    """The bias of a convolution in float64.

    Raises:
        ExportError: the convolution has none.
    """
    if conv.bias is None:
        raise ExportError(
            "folding the subtraction of the mean needs a convolution with a bias, and this one has none",
            wanted="a bias",
            remedy="add a bias of zeros to the convolution",
        )
    return conv.bias.double()


def with_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A copy of `conv` with other weights of the same shape."""
    return _with_parameters(copy.deepcopy(conv), weight, bias)


def pointwise(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Conv2d:
    """The 1x1 convolution with `weight` (out, in) and `bias` (out,)."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=dtype)
    return _with_parameters(conv, weight[:, :, None, None], bias)


def _with_parameters(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    state = {"weight": weight.to(conv.weight.dtype), "bias": bias.to(conv.weight.dtype)}
    conv.load_state_dict(state)
    return conv.requires_grad_(False)

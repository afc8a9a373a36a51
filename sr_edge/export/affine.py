"""Affine maps of channels in float64, and their composition: how 1x1 convolutions in a row become one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError


@dataclass(frozen=True)
class Affine:
    """x -> weight x + bias; weight (out, in), bias (out,), both float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> Affine:
        """The map of a 1x1 convolution, or of a sequence of them."""
        if isinstance(layer, nn.Conv2d):
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
            return cls(layer.weight.detach().double()[:, :, 0, 0], bias.double())
        first, *others = layer.children()
        whole = cls.of(first)
        for other in others:
            whole = cls.of(other).after(whole)
        return whole

    @classmethod
    def identity(cls, channels: int) -> Affine:
        return cls(torch.eye(channels).double(), torch.zeros(channels).double())

    def after(self, inner: Affine) -> Affine:
        """x -> self(inner(x))."""
        return Affine(self.weight @ inner.weight, self.weight @ inner.bias + self.bias)

    def scaled(self, factor: float) -> Affine:
        return Affine(self.weight * factor, self.bias * factor)

    def split(self, sizes: Sequence[int]) -> list[Affine]:
        """One map for each run of input channels; their results sum to this one's. The first has the bias."""
        none = torch.zeros_like(self.bias)
        parts = torch.split(self.weight, list(sizes), dim=1)
        return [Affine(part, none if at else self.bias) for at, part in enumerate(parts)]

    def conv(self, dtype: torch.dtype) -> nn.Conv2d:
        return pointwise(self.weight, self.bias, dtype)


def side_by_side(maps: Sequence[Affine]) -> Affine:
    """The map of inputs laid side by side whose result is the sum of the maps of each."""
    return Affine(torch.cat([each.weight for each in maps], dim=1), torch.stack([each.bias for each in maps]).sum(0))


class Joined(nn.Module):
    """A layer whose result is an affine map `tail` of several planes side by side, as a layer of its own."""

    def __init__(self, planes: nn.Module, tail: Affine, dtype: torch.dtype) -> None:
        super().__init__()
        self.planes = planes
        self.tail = tail.conv(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.cat(self.planes(x), dim=1))


def biases(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ExportError(
            "folding the subtraction of the mean needs a convolution with a bias, and this one has none",
            wanted="a bias",
            remedy="give the convolution a zero bias",
        )
    return conv.bias.double()


def with_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A copy of `conv` with other weights of the same shape."""
    return _filled(copy.deepcopy(conv), weight, bias)


def pointwise(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Conv2d:
    """The 1x1 convolution with `weight` (out, in)."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=dtype)
    return _filled(conv, weight[:, :, None, None], bias)


def _filled(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    state = {"weight": weight.to(conv.weight.dtype), "bias": bias.to(conv.weight.dtype)}
    conv.load_state_dict(state)
    return conv.requires_grad_(False)

"""Static twins of feed-forward layers: the MLP of Swin's blocks, and GDFN behind a LayerNorm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sr_edge.export.affine import Affine, biases, pointwise, with_weights
from sr_edge.export.mean_free import fold_norm, reflected_map
from sr_edge.models.gdfn import GDFN
from sr_edge.models.swin import Mlp

ALIGNMENT = 16


class HalvedGelu(nn.Module):
    """(x/2) (1 + erf(x / √2)): exactly `nn.GELU()`."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0.5) * (1 + torch.erf(x / math.sqrt(2)))


class StaticMlp(nn.Module):
    def __init__(self, mlp: Mlp, norm: nn.LayerNorm) -> None:
        super().__init__()
        dtype = mlp.fc1.weight.dtype
        self.fc1 = pointwise(*fold_norm(norm, mlp.fc1.weight, mlp.fc1.bias), dtype)
        self.act = HalvedGelu()
        self.fc2 = pointwise(*reflected_map(mlp.fc2), dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class StaticGDFN(nn.Module):
    """GDFN of `scale`: an affine map of the channels that comes before it, such as a norm's gamma and beta."""

    def __init__(self, layer: GDFN, before: Affine) -> None:
        super().__init__()
        hidden = layer.project_out.in_channels
        self.gate, self.value = (_path(layer, before, slice(at, at + hidden)) for at in (0, hidden))
        out = Affine.of(layer.project_out)
        self.project_out = Affine(_filled(out.weight, 1), out.bias).conv(layer.project_out.weight.dtype)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(self.act(self.gate(x)) * self.value(x))


def _path(layer: GDFN, before: Affine, half: slice) -> nn.Sequential:
    dtype = layer.project_in.weight.dtype
    whole = Affine.of(layer.project_in).after(before)
    project = Affine(_filled(whole.weight[half], 0), _filled(whole.bias[half], 0)).conv(dtype)
    kernels = _filled(layer.depthwise.weight.detach()[half], 0)
    depthwise = nn.Conv2d(len(kernels), len(kernels), 3, padding=1, groups=len(kernels), dtype=dtype)
    return nn.Sequential(project, with_weights(depthwise, kernels, torch.zeros_like(biases(depthwise))))


def _filled(tensor: Tensor, axis: int) -> Tensor:
    """Zeros appended along one axis up to a multiple of ALIGNMENT."""
    missing = -tensor.shape[axis] % ALIGNMENT
    shape = [missing if at == axis else size for at, size in enumerate(tensor.shape)]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)

"""Static twins of feed-forward layers: the MLP of Swin's blocks, and GDFN behind a LayerNorm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import Affine, biases, pointwise, with_weights
from sr_edge.export.twins.mean_free import fold_norm, reflected_map
from sr_edge.models.layers.lstea import GDFN
from sr_edge.models.layers.swin import Mlp

ALIGNMENT = 16
"""Channels; the width of the vector registers."""


class HalvedGelu(nn.Module):
    """`nn.GELU()`, computed as (x/2) (1 + erf(x / √2)), which the runtimes fuse into one kernel.

    torch's exporter multiplies by 1/2 at the end. onnxsim folds that product into the weights of a convolution that
    follows, and neither ONNX Runtime nor OpenVINO recognises what is left: four passes over the feature map in place
    of one kernel. With the factor 1/2 in front, x is used twice and nothing can be folded.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0.5) * (1 + torch.erf(x / math.sqrt(2)))


class StaticMlp(nn.Module):
    """The MLP of a transformer block, with the LayerNorm before it folded in, as 1x1 convolutions."""

    def __init__(self, mlp: Mlp, norm: nn.LayerNorm) -> None:
        super().__init__()
        dtype = mlp.fc1.weight.dtype
        self.fc1 = pointwise(*fold_norm(norm, mlp.fc1.weight, mlp.fc1.bias), dtype)
        self.act = HalvedGelu()
        self.fc2 = pointwise(*reflected_map(mlp.fc2), dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class StaticGDFN(nn.Module):
    """The twin of GDFN behind a LayerNorm: two parallel paths in place of one that is split.

    The gate (GELU) and the values have convolutions of their own, so that no tensor is sliced. The width int(2.66 C) of
    each path is padded with channels of zeros to a multiple of ALIGNMENT: gelu(0) 0 = 0 adds nothing to the result.

    Args:
        layer: The trained layer.
        before: An affine map of the channels to fold into the input projections, such as a norm's gamma and beta.
    """

    def __init__(self, layer: GDFN, before: Affine) -> None:
        super().__init__()
        hidden = layer.project_out.in_channels
        self.gate, self.value = (_path(layer, before, slice(start, start + hidden)) for start in (0, hidden))
        out = Affine.from_layer(layer.project_out)
        self.project_out = Affine(_zero_padded(out.weight, 1), out.bias).to_conv(layer.project_out.weight.dtype)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(self.act(self.gate(x)) * self.value(x))


def _path(layer: GDFN, before: Affine, half: slice) -> nn.Sequential:
    dtype = layer.project_in.weight.dtype
    both = Affine.from_layer(layer.project_in).after(before)
    project = Affine(_zero_padded(both.weight[half], 0), _zero_padded(both.bias[half], 0)).to_conv(dtype)
    kernels = _zero_padded(layer.depthwise.weight.detach()[half], 0)
    depthwise = nn.Conv2d(len(kernels), len(kernels), 3, padding=1, groups=len(kernels), dtype=dtype)
    return nn.Sequential(project, with_weights(depthwise, kernels, torch.zeros_like(biases(depthwise))))


def _zero_padded(tensor: Tensor, axis: int) -> Tensor:
    """Appends zeros along one axis up to a multiple of ALIGNMENT."""
    missing = -tensor.shape[axis] % ALIGNMENT
    shape = [missing if index == axis else size for index, size in enumerate(tensor.shape)]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)

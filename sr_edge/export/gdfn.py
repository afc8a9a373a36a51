"""The static twin of GDFN behind a LayerNorm: two aligned paths instead of one that is cut in two.

gelu and the product meet in separate paths of their own convolutions, so nothing is sliced. Their width int(2.66 C)
is filled up with channels of zeros to a multiple of 16, the width of vector registers: gelu(0) 0 = 0 adds nothing.
The norm's gamma and beta are folded into the projections.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_edge.export.affine import Affine
from sr_edge.export.mean_free import biases, with_weights
from sr_edge.models.lstea import GDFN

ALIGNMENT = 16


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

"""Small x2 networks with what shared checkpoints have and the bundled networks do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.models.layers.taylor_shift import TaylorShiftAttention


class Upscaling(nn.Module):
    """Convolution and pixel shuffle; what is odd comes in `transform`, and before it a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 12, 3, padding=1)

    def transform(self, features: Tensor) -> Tensor:
        return features

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.last(self.transform(self.first(x))), 2)


class EinsumNetwork(Upscaling):
    def transform(self, features: Tensor) -> Tensor:
        return torch.einsum("bchw,dc->bdhw", features, self.last.weight[:4, :, 1, 1])


class WindowSpectrumNetwork(Upscaling):
    """Multiplies the spectrum of windows of 4x4, as FFTformer does."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.rand(4, 1, 1, 4, 3))

    def transform(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        windows = features.view(batch, channels, height // 4, 4, width // 4, 4).transpose(3, 4)
        spectrum = torch.fft.rfft2(windows) * self.spectrum
        filtered = torch.fft.irfft2(spectrum, s=(4, 4))
        return filtered.transpose(3, 4).reshape(features.shape)


class FoldingNetwork(Upscaling):
    """Cuts an image into overlapping blocks and adds them again, as IPT does."""

    def transform(self, features: Tensor) -> Tensor:
        blocks = functional.unfold(features, 3, padding=1)
        return functional.fold(torch.tanh(blocks), features.shape[2:], 3, padding=1)


class GroupNormNetwork(Upscaling):
    """Normalizes all channels at once, of features whose mean is many times their deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, 4)

    def transform(self, features: Tensor) -> Tensor:
        return self.norm(features + 5.0)


class HopelessNetwork(Upscaling):
    """An operator that no exporter has."""

    def transform(self, features: Tensor) -> Tensor:
        return features + torch.linalg.svdvals(features.flatten(2)).sum()


class ThreeFactorNetwork(Upscaling):
    """An Einsum that is no product of two operands."""

    def transform(self, features: Tensor) -> Tensor:
        matrix = self.last.weight[:4, :, 1, 1]
        return torch.einsum("bchw,dc,ed->behw", features, matrix, matrix)


class CumulativeNetwork(Upscaling):
    def transform(self, features: Tensor) -> Tensor:
        return features.cumsum(2) / 100.0


class HighRankNetwork(Upscaling):
    """Windows of 2x2, partitioned in rank 6 as networks write it."""

    def transform(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        windows = features.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1)
        scaled = windows * torch.softmax(windows, -1)
        return scaled.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width)


class RankingNetwork(Upscaling):
    """TopK of more values than TensorRT takes, at tiles of 32x32 and more."""

    def transform(self, features: Tensor) -> Tensor:
        values, _ = features.flatten(1).topk(3841)
        return features + values[:, -1:, None, None]


class UnknownShapeNetwork(Upscaling):
    """Chooses its rows by their values: all of them, which only running it tells."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.nonzero(x.mean((0, 1, 3)) > -1.0)[:, 0]
        return super().forward(x).index_select(2, torch.cat([2 * rows, 2 * rows + 1]).sort()[0])


class SharedLayerNetwork(Upscaling):
    """One attention layer for inputs of two shapes, for which there is no one static twin."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = TaylorShiftAttention(4, 1)

    def transform(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)
        attended = self.attention(tokens) + self.attention(tokens[:, ::2]).mean()
        return attended.transpose(1, 2).reshape(features.shape)


class PoolingNetwork(Upscaling):
    """Pools to a fifth of its size, which is no factor of it."""

    def transform(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        pooled = functional.adaptive_max_pool2d(features, (height // 5, width // 5))
        return features + functional.interpolate(pooled, size=(height, width))


class Spectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return torch.fft.fft2(features).abs()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class CustomFunctionNetwork(Upscaling):
    def transform(self, features: Tensor) -> Tensor:
        result: Tensor = Spectrum.apply(features)  # type: ignore[no-untyped-call]
        return result


class FourierNetwork(Upscaling):
    def transform(self, features: Tensor) -> Tensor:
        return features + torch.fft.fft2(features).real


class DynamicKernelNetwork(Upscaling):
    """A convolution whose kernel has a shape that the exporter cannot infer."""

    def transform(self, features: Tensor) -> Tensor:
        chosen = features[features.mean((1, 2, 3)) > -1e9]
        kernel = torch.ones(chosen.shape[1], 1, 3, 3)
        return functional.conv2d(chosen, kernel.view(-1, 1, 3, 3), padding=1, groups=4)


class BrokenNetwork(Upscaling):
    def transform(self, features: Tensor) -> Tensor:
        raise KeyError("no such window\nsecond line")


class Nested(nn.Module):
    """A network inside another one, so that modules have a path."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleList([network])

    def forward(self, x: Tensor) -> Tensor:
        return self.body[0](x)


def pooling_network() -> nn.Module:
    return Nested(PoolingNetwork())

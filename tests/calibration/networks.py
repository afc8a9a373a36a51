"""Fourteen small networks with every kind of layer, trained for about a minute each.

`python -m tests.calibration.train_networks` trains them again. It learns on the two bundled photographs that
calibration uses, and says on a third one how far each is above bicubic enlargement.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sr_edge.spec import TileSpec

WEIGHTS = Path(__file__).with_name("weights")
FIGURES = WEIGHTS / "psnr.json"
"""By network, the PSNR after training and that of bicubic interpolation, in dB."""

TILE = TileSpec(24, 24)


def conv(inputs: int, outputs: int, side: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, groups=groups)


class Around(nn.Module):
    """A head, a body with a long skip connection and a tail with pixel shuffle, added to the interpolated image."""

    def __init__(self, *body: nn.Module, width: int = 16, scale: int = 2, colours: int = 3) -> None:
        super().__init__()
        self.head = conv(colours, width)
        self.body = nn.Sequential(*body)
        self.tail = nn.Sequential(conv(width, colours * scale**2), nn.PixelShuffle(scale))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        features = features + self.body(features)
        return nn.functional.interpolate(x, scale_factor=float(self.scale)) + 0.2 * self.tail(features)


class Skip(nn.Module):
    def __init__(self, *layers: nn.Module, share: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x + self.share * self.layers(x)


class DenseBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.grow = nn.ModuleList(conv(width + 8 * index, 8) for index in range(3))
        self.merge = conv(width + 24, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.grow:
            features.append(nn.functional.leaky_relu(layer(torch.cat(features, 1)), 0.2))
        return self.merge(torch.cat(features, 1))


class ChannelAttention(nn.Module):
    """Channel attention by the mean or, as in contrast-aware attention, by mean and standard deviation."""

    def __init__(self, width: int, contrast: bool) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(conv(width, 4, 1), nn.ReLU(), conv(4, width, 1), nn.Sigmoid())
        self.contrast = contrast

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        if self.contrast:
            mean = mean + ((x - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        return x * self.squeeze(mean)


class WindowAttention(nn.Module):
    def __init__(self, width: int, window: int = 8) -> None:
        super().__init__()
        self.norm, self.qkv, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        channels, side, count = x.shape[1], self.window, x.shape[2] // self.window
        tokens = x.reshape(channels, count, side, count, side).permute(1, 3, 2, 4, 0).reshape(-1, side * side, channels)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        tokens = tokens + self.project((q @ k.transpose(1, 2) / channels**0.5).softmax(-1) @ v)
        tokens = tokens + self.mlp(tokens)
        return tokens.reshape(count, count, side, side, channels).permute(4, 0, 2, 1, 3).reshape(x.shape)


class ConvNeXtBlock(nn.Module):
    """Depthwise, then channels last: LayerNorm and two linear layers, with a gain per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = conv(width, width, 7, width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return (self.gain * self.narrow(nn.functional.gelu(self.widen(tokens)))).permute(0, 3, 1, 2)


class LinearAttention(nn.Module):
    """Kernelised attention over all pixels: its denominator is a product with summed keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (conv(width, width, 1) for _ in range(4))
        self.total = nn.Parameter(torch.ones(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        mixed = q @ (k.transpose(1, 2) @ v) / (q * k.sum(1, keepdim=True)).matmul(self.total)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Shuffle(nn.Module):
    """Channel shuffle, in operators that every exporter supports."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, self.groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


class Recursive(nn.Module):
    """One convolution, applied four times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = torch.relu(self.shared(x))
        return x


class Deconvolving(nn.Module):
    """The structure of FSRCNN: shrinking, mapping, expanding, and a transposed convolution for upscaling."""

    def __init__(self) -> None:
        super().__init__()
        maps = [layer for _ in range(2) for layer in (conv(8, 8), nn.PReLU(8))]
        self.body = nn.Sequential(conv(3, 24, 5), nn.PReLU(24), conv(24, 8, 1), nn.PReLU(8), *maps, conv(8, 24, 1))
        self.up = nn.ConvTranspose2d(24, 3, 9, stride=2, padding=4, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0) + 0.2 * self.up(torch.relu(self.body(x)))


def residual(width: int = 16) -> nn.Module:
    return Skip(conv(width, width), nn.ReLU(), conv(width, width), share=0.5)


@dataclass(frozen=True)
class SmallNetwork:
    """How to build the network, and its scale; at scale 1 it removes noise. `dynamic`: exported for any size."""

    build: Callable[[], nn.Module]
    scale: int = 2
    colours: int = 3
    dynamic: bool = False


NETWORKS: dict[str, SmallNetwork] = {
    "residual": SmallNetwork(lambda: Around(residual(), residual()), dynamic=True),
    "residual in residual": SmallNetwork(
        lambda: Around(Skip(Skip(DenseBlock(16), share=0.2), Skip(DenseBlock(16), share=0.2)))
    ),
    "channel attention": SmallNetwork(
        lambda: Around(Skip(conv(16, 16), nn.ReLU(), ChannelAttention(16, contrast=False))), dynamic=True
    ),
    "contrast attention": SmallNetwork(
        lambda: Around(Skip(conv(16, 16), nn.LeakyReLU(0.05), ChannelAttention(16, contrast=True)))
    ),
    "window attention": SmallNetwork(lambda: Around(WindowAttention(16), conv(16, 16))),
    "convnext": SmallNetwork(lambda: Around(Skip(ConvNeXtBlock(16)), Skip(ConvNeXtBlock(16)))),
    "linear attention": SmallNetwork(lambda: Around(Skip(LinearAttention(16)), conv(16, 16))),
    "depthwise": SmallNetwork(
        lambda: Around(Skip(conv(16, 16, 3, 16), conv(16, 32, 1), nn.Hardswish(), conv(32, 16, 1))), dynamic=True
    ),
    "grouped": SmallNetwork(lambda: Around(Skip(conv(16, 32, 3, 4), nn.SiLU(), Shuffle(4), conv(32, 16, 3, 8)))),
    "normalised": SmallNetwork(
        lambda: Around(Skip(conv(16, 16), nn.InstanceNorm2d(16, affine=True), nn.ReLU(), conv(16, 16)))
    ),
    "shared weights": SmallNetwork(lambda: Around(Recursive(16)), dynamic=True),
    "transposed": SmallNetwork(Deconvolving, dynamic=True),
    "luma alone": SmallNetwork(
        lambda: Around(conv(16, 16), nn.Tanh(), conv(16, 16), colours=1, scale=3), scale=3, colours=1
    ),
    "same size": SmallNetwork(lambda: Around(residual(), scale=1), scale=1),
}


def weights_of(name: str) -> Path:
    """The float16 file of a network's trained weights."""
    return WEIGHTS / f"{name.replace(' ', '-')}.safetensors"


def trained(name: str) -> nn.Module:
    """The network with its trained weights, in float32."""
    module = NETWORKS[name].build()
    module.load_state_dict({key: value.float() for key, value in load_file(weights_of(name)).items()})
    return module.eval()


def export(name: str, path: Path) -> None:
    """Exports with torch.onnx alone, with other names and without metadata."""
    network = NETWORKS[name]
    sides = {name: {2: f"{name}_h", 3: f"{name}_w"} for name in ("lr", "sr")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces say what they fix
        torch.onnx.export(
            trained(name),
            (torch.zeros(1, network.colours, TILE.height, TILE.width),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_axes=sides if network.dynamic else None,
        )

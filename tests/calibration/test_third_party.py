"""A dozen small networks as anybody would export them: no metadata, dynamic or static, every kind of layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.calibration import Account, HeldOut, Order, calibrate_within, quantize_onnx
from sr_edge.calibration.graph import load_graph
from sr_edge.calibration.scale import graph_scale
from sr_edge.calibration.watched import WatchedGraph
from sr_edge.errors import CalibrationError
from sr_edge.spec import Spelling, TileSpec

Batch = npt.NDArray[np.float32]
Run = Callable[[onnx.ModelProto, Batch], Batch]
TILE = TileSpec(24, 24)


def conv(inputs: int, outputs: int, side: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, groups=groups)


class Around(nn.Module):
    """head, body with a long skip, tail with pixel shuffle, on top of the enlarged picture."""

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
    """By mean or, as in contrast-aware attention, by mean and deviation."""

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
    """Channels of all groups mixed, in operators that every exporter knows."""

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
    """FSRCNN's shape: shrink, map, widen, and a transposed convolution that enlarges."""

    def __init__(self) -> None:
        super().__init__()
        maps = [layer for _ in range(2) for layer in (conv(8, 8), nn.PReLU(8))]
        self.body = nn.Sequential(conv(3, 24, 5), nn.PReLU(24), conv(24, 8, 1), nn.PReLU(8), *maps, conv(8, 24, 1))
        self.up = nn.ConvTranspose2d(24, 3, 9, stride=2, padding=4, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0) + 0.2 * self.up(torch.relu(self.body(x)))


def residual(width: int = 16) -> nn.Module:
    return Skip(conv(width, width), nn.ReLU(), conv(width, width), share=0.5)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: Around(residual(), residual()),
    "residual in residual": lambda: Around(Skip(Skip(DenseBlock(16), share=0.2), Skip(DenseBlock(16), share=0.2))),
    "channel attention": lambda: Around(Skip(conv(16, 16), nn.ReLU(), ChannelAttention(16, contrast=False))),
    "contrast attention": lambda: Around(Skip(conv(16, 16), nn.LeakyReLU(0.05), ChannelAttention(16, contrast=True))),
    "window attention": lambda: Around(WindowAttention(16), conv(16, 16)),
    "convnext": lambda: Around(Skip(ConvNeXtBlock(16)), Skip(ConvNeXtBlock(16))),
    "linear attention": lambda: Around(Skip(LinearAttention(16)), conv(16, 16)),
    "depthwise": lambda: Around(Skip(conv(16, 16, 3, 16), conv(16, 32, 1), nn.Hardswish(), conv(32, 16, 1))),
    "grouped": lambda: Around(Skip(conv(16, 32, 3, 4), nn.SiLU(), Shuffle(4), conv(32, 16, 3, 8))),
    "normalised": lambda: Around(Skip(conv(16, 16), nn.InstanceNorm2d(16, affine=True), nn.ReLU(), conv(16, 16))),
    "shared weights": lambda: Around(Recursive(16)),
    "transposed": Deconvolving,
    "luma alone": lambda: Around(conv(16, 16), nn.Tanh(), conv(16, 16), colours=1, scale=3),
    "same size": lambda: Around(residual(), scale=1),
}
DYNAMIC = ("residual", "channel attention", "depthwise", "transposed", "shared weights")
STATISTICS = {
    "channel attention": ["/body/body.0/layers/layers.2/squeeze/squeeze.0/Conv"],
    "contrast attention": ["/body/body.0/layers/layers.2/squeeze/squeeze.2/Conv"],
    "linear attention": ["/body/body.0/layers/layers.0/MatMul_2"],
}


def pictures(count: int, colours: int) -> list[Batch]:
    rows, columns = np.indices((24, 24), np.float32)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        rate, phase = generator.uniform(0.1, 0.9, (2, 3, 1, 1))
        waves = (
            0.5
            + 0.4 * np.sin(rate * rows + phase * columns + 6 * phase)
            + 0.05 * generator.standard_normal((3, 24, 24))
        )
        found.append(np.clip(waves[np.newaxis, :colours], 0.0, 1.0).astype(np.float32))
    return found


class Calibrated:
    def __init__(self, name: str, folder: Path) -> None:
        torch.manual_seed(len(name))
        self.path = folder / "third-party.onnx"
        colours = 1 if name == "luma alone" else 3
        export(NETWORKS[name](), self.path, name in DYNAMIC, colours)
        patches = pictures(20, colours)
        self.held_out = [HeldOut(patch) for patch in patches[16:]]
        self.account: Account = calibrate_within(self.path, patches[:16], self.held_out, Order())


def export(module: nn.Module, path: Path, dynamic: bool = False, colours: int = 3) -> None:
    """As others export: torch's exporter alone, with names of their own."""
    sides = {name: {2: f"{name}_h", 3: f"{name}_w"} for name in ("lr", "sr")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces say what they fix
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, colours, TILE.height, TILE.width),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_axes=sides if dynamic else None,
        )


@pytest.fixture(scope="module", params=NETWORKS)
def calibrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return Calibrated(request.param, tmp_path_factory.mktemp("third-party"))


def test_the_budget_is_kept_and_most_layers_are_int8(calibrated: Calibrated) -> None:
    account = calibrated.account
    assert account.choice.drop_db <= 0.05
    judged = [row for row in account.layers if row.noise_db is not None]
    assert len(account.choice.int8) >= len(judged) / 2


def test_both_spellings_give_the_same_bits(calibrated: Calibrated, tmp_path: Path, run_as_written: Run) -> None:
    found = []
    for spelling in Spelling:
        path = quantize_onnx(calibrated.path, calibrated.account.calibration, tmp_path / f"{spelling}.onnx", spelling)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        found.append(run_as_written(onnx.load(path), calibrated.held_out[0].patch))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_never_become_int8(name: str, tmp_path: Path) -> None:
    rows = {row.node: row for row in Calibrated(name, tmp_path).account.layers}
    for node in STATISTICS[name]:
        assert rows[node].noise_db is None
        assert rows[node].reason


def test_an_opset_without_channel_scales_is_raised(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32) / 5
    body = "a = Conv<pads = [1,1,1,1]>(x, w)  b = Relu(a)  y = Conv<pads = [1,1,1,1]>(b, w)"
    head = '<ir_version: 6, opset_import: ["" : 11]> g (float[1,3,24,24] x, float[3,3,3,3] w) => (float[1,3,24,24] y)'
    model = onnx.parser.parse_model(f"{head} {{ {body} }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "old.onnx")
    patches = pictures(8, 3)
    found = calibrate_within(tmp_path / "old.onnx", patches, [HeldOut(patch) for patch in patches], Order())
    quantize_onnx(tmp_path / "old.onnx", found.calibration, tmp_path / "int8.onnx")
    assert onnx.load(tmp_path / "int8.onnx").opset_import[0].version == 13


def test_a_shared_weight_behind_an_identity_is_found(tmp_path: Path) -> None:
    body = "v = Identity(w)  a = Conv<pads = [1,1,1,1]>(x, w)  y = Conv<pads = [1,1,1,1]>(a, v)"
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] x, float[3,3,3,3] w) => (float[1,3,8,8] y)'
    model = onnx.parser.parse_model(f"{head} {{ {body} }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w"))
    onnx.save(model, tmp_path / "shared.onnx")
    loaded = load_graph(tmp_path / "shared.onnx")
    assert [list(node.input) for node in loaded.graph.node] == [["x", "w"], ["a", "w"]]
    batch = pictures(1, 3)[0][:, :, :8, :8]
    wanted = WatchedGraph(onnx.load(tmp_path / "shared.onnx")).run(batch)[0]
    np.testing.assert_array_equal(WatchedGraph(loaded).run(batch)[0], wanted)


def test_the_scale_is_found_by_running(tmp_path: Path) -> None:
    for name, scale in (("residual", 2), ("same size", 1)):
        export(NETWORKS[name](), tmp_path / "n.onnx")
        assert graph_scale(tmp_path / "n.onnx", TILE) == scale
    body = "y = ReduceMean<axes = [2,3]>(x)"
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,24,24] x) => (float[1,3,1,1] y) {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "mean.onnx")
    with pytest.raises(CalibrationError, match="wanted a whole number of times as large"):
        graph_scale(tmp_path / "mean.onnx", TILE)

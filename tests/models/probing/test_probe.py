"""What a network of the user's is, found by running it at the tile asked for; what does not fit is named."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import SrEdgeError, UsageError, WeightsError
from sr_edge.models import load_model
from sr_edge.models.probing import TrialLimit, UnsupportedTile, probe_network, probe_sizes
from sr_edge.models.probing.failures import OtherChannels, explain_failure
from sr_edge.models.probing.probe import SCALES
from sr_edge.spec import CHANNELS, DEFAULT_TILE, TileSpec
from tests.expected_errors import raises

TILE = TileSpec(36, 52)
PAIRS = tuple((channels, channels) for channels in CHANNELS)


class Body(nn.Module):
    """From `channels` to 3, twice the size."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.conv(x), 2)


class Resized(nn.Module):
    def __init__(self, height: float, width: float) -> None:
        super().__init__()
        self.factors = height, width

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=self.factors)


class SameSize(nn.Conv2d):
    """From one number of channels to another, at the same size."""

    def __init__(self, channels: int, output_channels: int) -> None:
        super().__init__(channels, output_channels, 3, padding=1)


class OneLumaSize(nn.Module):
    """Takes one channel of one size only, as graphs of a fixed size do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 1, TILE.height, TILE.width)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_channels_are_found(channels: int, scale: int) -> None:
    class Network(SameSize):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(super().forward(x), scale_factor=scale)

    network = Network(channels, channels).eval()
    probe = probe_sizes(network, "net", probe_network(network, "net", TILE))
    assert (probe.channels, probe.scale, probe.multiple_px, probe.square) == (channels, scale, 1, False)


def test_the_channels_of_a_network_of_one_size_are_found() -> None:
    assert probe_network(OneLumaSize().eval(), "net", TILE).channels == 1


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_is_found(scale: int) -> None:
    assert probe_network(Resized(scale, scale), "net", TileSpec(6, 10)).scale == scale


@pytest.mark.parametrize("factors", [(5, 5), (2, 3), (0.5, 0.5), (1.5, 1.5), (32, 32)])
def test_other_ratios_are_refused(factors: tuple[float, float]) -> None:
    with raises(UsageError, found=(6 * factors[0], 10 * factors[1]), wanted=SCALES):
        probe_network(Resized(*factors), "net", TileSpec(6, 10))


def test_a_network_that_pads_and_crops_is_taken_and_one_that_only_crops_is_not() -> None:
    class Padded(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(functional.pad(x, (0, 12, 0, 12)))[..., : 2 * x.shape[2], : 2 * x.shape[3]]

    class Cropped(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[..., 1:-1, 1:-1]

    assert probe_network(Padded(), "net", TILE).scale == 2
    with raises(UsageError, found=(70, 102), wanted=SCALES):
        probe_network(Cropped(), "net", TILE)


def test_the_tile_asked_for_is_tried() -> None:
    shapes = []

    class Looking(Body):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    probe_network(Looking(), "net", TILE)
    assert set(shapes) == {(1, 3, 36, 52)}


class Windows(Body):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        return super().forward(x.reshape(batch, channels, height // 8, 8, width // 8, 8).reshape(x.shape))


class OneSize(Body):
    def __init__(self) -> None:
        super().__init__()
        self.position = torch.zeros(1, 3, 64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.position)


class Square(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ x.transpose(2, 3) @ x if x.shape[2] == x.shape[3] else x @ x)


@pytest.mark.parametrize(
    ("network", "supported_tile", "multiple_px"),
    [(Windows, TileSpec(40, 56), 8), (OneSize, TileSpec(64, 64), 1), (Square, TileSpec(52, 52), 1)],
)
def test_tiles_that_work_are_named(network: type[nn.Module], supported_tile: TileSpec, multiple_px: int) -> None:
    with raises(UnsupportedTile, found=TILE, wanted=supported_tile) as caught:
        probe_network(network(), "net", TILE)
    assert (caught.value.supported_tile, caught.value.multiple_px) == (supported_tile, multiple_px)
    assert f"--tile {supported_tile}" in (caught.value.remedy or "")


class Classifier(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3))


class Pair(Body):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Video(Body):
    def forward(self, frames: Tensor) -> Tensor:
        _, count, _, _, _ = frames.shape
        return super().forward(frames[:, count // 2])


class Diffusion(Body):
    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + timestep


class Whole(Body):
    def forward(self, x: Tensor) -> Tensor:
        return (255 * super().forward(x)).to(torch.uint8)


class Broken(Body):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("its table is absent\nand more")


class Overflowing(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


@pytest.mark.parametrize(
    ("network", "kind", "actual", "wanted"),
    [
        (Classifier, UsageError, (1, 3), (1, 3, "height", "width")),
        (Pair, UsageError, "tuple", "torch.Tensor"),
        (Video, UsageError, 3, 1),
        (Diffusion, UsageError, ["timestep"], []),
        (Whole, UsageError, torch.uint8, torch.float32),
        (Broken, WeightsError, TILE, None),
        (Overflowing, WeightsError, None, "finite values"),
        (lambda: Body(2), OtherChannels, 2, CHANNELS),
        (lambda: Body(1), UsageError, (1, 3), PAIRS),
        (lambda: Body(4), UsageError, (4, 3), PAIRS),
        (lambda: SameSize(3, 1), UsageError, (3, 1), PAIRS),
    ],
)
def test_other_networks_are_refused_by_what_they_take_or_return(
    network: type[nn.Module], kind: type[SrEdgeError], actual: object, wanted: object
) -> None:
    global FACTORY
    FACTORY = network
    with raises(kind, found=actual, wanted=wanted) as caught:
        load_model(None, None, arch=f"{__name__}:made", tile=TILE)
    assert network is not Broken or "its table is absent" in caught.value.problem


FACTORY: type[nn.Module] = Body


def made() -> nn.Module:
    return FACTORY()


class Dropout(Body):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.5, training=True)


class Noise(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class PythonNoise(Body):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * random.random()


@pytest.mark.parametrize(
    ("network", "operators"), [(Dropout, ["bernoulli_"]), (Noise, ["randn_like"]), (PythonNoise, [])]
)
def test_random_networks_are_refused_with_the_operators_that_draw_numbers(
    network: type[nn.Module], operators: list[str]
) -> None:
    with raises(WeightsError, found=operators, wanted="the same output for the same image"):
        probe_network(network().eval(), "net", TILE)


def test_a_network_that_only_has_a_dropout_is_not_random() -> None:
    probe_network(nn.Sequential(Body(), nn.Dropout(0.5)).eval(), "net", TILE)


class InWindows(nn.Module):
    """Takes sides that are multiples of `window` only, or one size only."""

    def __init__(self, window: int, only: TileSpec | None = None) -> None:
        super().__init__()
        self.window = window
        self.only = only

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % self.window or width % self.window or self.only not in (None, TileSpec(height, width)):
            raise RuntimeError(f"cannot cut {height}x{width} into windows")
        return nn.functional.interpolate(x, scale_factor=2.0)


def test_without_a_tile_one_is_found_that_the_network_takes() -> None:
    probe = probe_network(InWindows(64), "net", None)
    assert (probe.tile, probe.multiple_px, probe.scale) == (TileSpec(128, 128), 64, 2)
    assert probe_network(InWindows(1), "net", None).tile == DEFAULT_TILE
    assert probe_network(InWindows(64, TileSpec(64, 64)), "net", None).tile == TileSpec(64, 64)


class Positions(nn.Module):
    """Takes one size, whose positions it has learnt."""

    def __init__(self, height: int = 64, width: int = 64) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 3, height, width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x + self.positions, scale_factor=2.0)


class Halves(nn.Module):
    """Takes any size, and loses a row and a column of odd ones."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=4.0)


def sizes(network: nn.Module, tile: TileSpec | None, **limit: Any) -> tuple[int, int, bool]:
    probe = probe_sizes(network, "net", probe_network(network, "net", tile), TrialLimit(**limit))
    return probe.multiple_px, probe.minimum_px, probe.square


@pytest.mark.parametrize(
    ("network", "tile", "needs"),
    [
        (InWindows(1), DEFAULT_TILE, (1, 1, False)),
        (InWindows(8), DEFAULT_TILE, (8, 1, False)),
        (InWindows(12), DEFAULT_TILE, (12, 1, False)),
        (InWindows(96), DEFAULT_TILE, (96, 1, False)),
        (InWindows(8), TileSpec(512, 768), (8, 1, False)),
        (InWindows(48), TileSpec(480, 480), (48, 1, False)),
        (InWindows(7), TileSpec(28, 35), (7, 1, False)),
        (Halves(), DEFAULT_TILE, (2, 1, False)),
        (Square(), DEFAULT_TILE, (1, 1, True)),
        (Positions(), None, (64, 64, True)),
        (Positions(36, 52), TILE, (4, 36, False)),
    ],
)
def test_what_divides_the_sides_is_found_beside_a_tile_that_fits(
    network: nn.Module, tile: TileSpec | None, needs: tuple[int, int, bool]
) -> None:
    assert sizes(network, tile, runs=10) == needs


def test_the_limit_is_kept_and_nothing_is_promised_then() -> None:
    shapes = []

    class Counting(InWindows):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(x.shape)
            return super().forward(x)

    assert sizes(Counting(8), DEFAULT_TILE, runs=1) == (96, 96, True)
    tried = len(shapes) - 1
    assert tried == 4  # twice, and twice on a copy
    assert sizes(Counting(8), DEFAULT_TILE, clock=iter(range(0, 1000, 21)).__next__) == (96, 96, True)
    assert len(shapes) == tried + 1 + tried


def test_the_card_of_a_foreign_network_has_its_sizes() -> None:
    global FACTORY
    FACTORY = Windows
    assert load_model(None, None, arch=f"{__name__}:made").card.multiple_px == 8
    FACTORY = Positions
    model = load_model(None, None, arch=f"{__name__}:made")
    assert (model.tile, model.card.multiple_px, model.card.square_tiles) == (TileSpec(64, 64), 64, True)
    assert "--tile 64x64" in " ".join(model.remarks)


def test_few_and_small_pictures_name_a_network_that_fails() -> None:
    shapes = []

    class Failing(Body):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    with raises(OtherChannels, found=2, wanted=CHANNELS):
        probe_network(Failing(2), "net", TileSpec(512, 512))
    assert len(shapes) <= 5 and all(max(shape) <= 64 for shape in shapes[1:])
    shapes.clear()
    error = explain_failure(Failing(5), "net", TILE, "why", TrialLimit(runs=7))
    assert isinstance(error, WeightsError) and len(shapes) == 7
    shapes.clear()
    explain_failure(Failing(5), "net", TILE, "why", TrialLimit(seconds=3, clock=iter(range(100)).__next__))
    assert len(shapes) == 2


def test_a_smallest_side_is_not_called_a_multiple() -> None:
    class Padded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(functional.pad(x, (30, 30, 30, 30), "reflect"), scale_factor=2.0)[
                ..., 60:-60, 60:-60
            ]

    with raises(UnsupportedTile, found=TileSpec(24, 24)) as caught:
        probe_network(Padded(), "net", TileSpec(24, 24))
    assert caught.value.multiple_px == 1


def test_a_tile_that_was_asked_for_is_not_replaced() -> None:
    with raises(UnsupportedTile, found=TileSpec(96, 96)) as caught:
        probe_network(InWindows(64), "net", TileSpec(96, 96))
    assert (caught.value.supported_tile, caught.value.multiple_px) == (TileSpec(128, 128), 64)


class KeepsAMean(nn.Module):
    """Normalises by the mean of the first picture that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            self.mean = x.mean((2, 3), keepdim=True)
        return nn.functional.interpolate(x - self.mean, scale_factor=2.0)


class DrawsWeightsOnce(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gain is None:
            self.gain = torch.rand(1, 3, 1, 1)
        return nn.functional.interpolate(x * self.gain, scale_factor=2.0)


class KeepsATable(nn.Module):
    """Builds a table for the size on its first run, as position encodings and masks are: no harm."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.tables:
            self.tables[tuple(x.shape)] = torch.linspace(0.5, 1.0, x.shape[-1])
        return nn.functional.interpolate(x * self.tables[tuple(x.shape)], scale_factor=2.0)


@pytest.mark.parametrize("network", [KeepsAMean, DrawsWeightsOnce])
def test_what_depends_on_the_first_picture_is_refused(network: type[nn.Module]) -> None:
    with raises(WeightsError, wanted="an output that depends on the current image alone"):
        probe_network(network().eval(), "net", TILE)


def test_a_table_for_a_size_is_no_harm() -> None:
    assert probe_network(KeepsATable().eval(), "net", TILE).scale == 2

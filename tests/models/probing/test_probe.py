"""What a network of the user's is, found by running it at the tile asked for; what does not fit is named."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import SrEdgeError, TileError, UsageError, WeightsError
from sr_edge.models import load_model
from sr_edge.models.probing import probe_network
from sr_edge.models.probing.probe import SCALES
from sr_edge.spec import TileSpec

TILE = TileSpec(36, 52)


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


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_is_found(scale: int) -> None:
    assert probe_network(Resized(scale, scale), "net", TileSpec(6, 10)) == scale


@pytest.mark.parametrize("factors", [(5, 5), (2, 3), (0.5, 0.5), (1.5, 1.5), (32, 32)])
def test_other_ratios_are_refused(factors: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="1, 2, 3, 4, 8, 16 times"):
        probe_network(Resized(*factors), "net", TileSpec(6, 10))


def test_a_network_that_pads_and_crops_is_taken_and_one_that_only_crops_is_not() -> None:
    class Padded(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(functional.pad(x, (0, 12, 0, 12)))[..., : 2 * x.shape[2], : 2 * x.shape[3]]

    class Cropped(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[..., 1:-1, 1:-1]

    assert probe_network(Padded(), "net", TILE) == 2
    with pytest.raises(UsageError, match="70x102"):
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
    ("network", "advice"),
    [(Windows, "multiples of 8, for example --tile 40x56"), (OneSize, "--tile 64x64"), (Square, "--tile 52x52")],
)
def test_tiles_that_work_are_named(network: type[nn.Module], advice: str) -> None:
    with pytest.raises(TileError, match=advice):
        probe_network(network(), "net", TILE)


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
    ("network", "kind", "word"),
    [
        (Classifier, UsageError, "classifier"),
        (Pair, UsageError, "tuple"),
        (Video, UsageError, "frames"),
        (Diffusion, UsageError, "timestep"),
        (Whole, UsageError, "uint8"),
        (Broken, WeightsError, "its table is absent"),
        (Overflowing, WeightsError, "NaN"),
        (lambda: Body(1), UsageError, "1 channel;"),
        (lambda: Body(4), UsageError, "4 channels"),
    ],
)
def test_other_networks_are_named_in_one_line(network: type[nn.Module], kind: type[SrEdgeError], word: str) -> None:
    global FACTORY
    FACTORY = network
    with pytest.raises(kind, match=word) as caught:
        load_model(None, None, arch=f"{__name__}:made", tile=TILE)
    assert "\n" not in str(caught.value)


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
    ("network", "cause"), [(Dropout, "dropout"), (Noise, "randn_like"), (PythonNoise, "Python's random")]
)
def test_random_networks_are_named_with_the_cause(network: type[nn.Module], cause: str) -> None:
    with pytest.raises(WeightsError, match=cause):
        probe_network(network().eval(), "net", TILE)


def test_a_network_that_only_has_a_dropout_is_not_random() -> None:
    probe_network(nn.Sequential(Body(), nn.Dropout(0.5)).eval(), "net", TILE)

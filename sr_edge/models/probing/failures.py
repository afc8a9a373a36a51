"""Explains why a network does not run on a tile, by trying other sizes, channels and numbers of frames."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from sr_edge.errors import SrEdgeError, TileError, UsageError, WeightsError
from sr_edge.models.probing.trials import TrialLimit, Trials
from sr_edge.spec import CHANNELS, NETWORKS_WANTED, TileSpec, count_of_channels

MULTIPLES = (2, 3, 4, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)
FIXED_SIZES = (48, 64, 128, 224, 256)
OTHER_CHANNELS = (1, 4, 2, 6, 9, 12)
FRAMES = (3, 5, 7)
SMALL_PX = 64


class UnsupportedTile(TileError):
    """A network does not support the tile, but another one.

    Args:
        problem: the message.
        found: the tile that was given.
        supported_tile: a tile that the network supports.
        multiple_px: height and width of supported tiles are multiples of this.
        remedy: what the user can do.
    """

    def __init__(
        self, problem: str, *, found: TileSpec, supported_tile: TileSpec, multiple_px: int, remedy: str
    ) -> None:
        super().__init__(problem, found=found, wanted=supported_tile, remedy=remedy)
        self.supported_tile = supported_tile
        self.multiple_px = multiple_px


class OtherChannels(UsageError):
    """A network does not take images with that number of channels, but with another one, `channels`."""

    def __init__(self, name: str, found: int, channels: int) -> None:
        supported = channels in CHANNELS
        super().__init__(
            f"{name} takes images of {count_of_channels(channels)}",
            found=channels,
            wanted=found if supported else CHANNELS,
            remedy=f"run it on images of {count_of_channels(channels)}" if supported else NETWORKS_WANTED,
        )
        self.channels = channels


def explain_failure(
    network: nn.Module, name: str, tile: TileSpec, message: str, limit: TrialLimit | None = None, channels: int = 3
) -> SrEdgeError:
    """The error for a network that failed on an image of the size of a tile.

    Args:
        network: the network.
        name: what error messages call it.
        tile: the tile.
        message: the message of the exception that the network raised.
        limit: limit of the trials that find the cause; None for the default.
        channels: number of channels of that image.
    """
    trials = Trials(network, limit or TrialLimit(), channels)
    mismatch = _another_input(trials, name, tile, channels) or _another_tile(trials, name, tile, message)
    return mismatch or WeightsError(
        f"{name} cannot run on a 1x{channels}x{tile} image ({message}), nor on any of {trials.runs} inputs of other "
        "sizes, channels and numbers of frames",
        found=tile,
        remedy="check its code, or pass the --tile that it was made for",
    )


def _another_input(trials: Trials, name: str, tile: TileSpec, channels: int) -> SrEdgeError | None:
    """The error for a network that takes another number of channels, or several frames.

    Small images are tried first, then the tile, for networks of one size. None if the network takes a small image with
    these channels: then it failed because of the size of its tile alone.
    """
    size = (SMALL_PX, SMALL_PX)
    if trials.output_shape((1, channels, *size)):
        return None
    inputs = [(other, *size) for other in OTHER_CHANNELS]
    inputs += [(other, tile.height, tile.width) for other in OTHER_CHANNELS if other in CHANNELS]
    for shape in inputs:
        if trials.output_shape((1, *shape)):
            return OtherChannels(name, channels, shape[0])
    for frames in FRAMES:
        if trials.output_shape((1, frames, 3, *size)) or trials.output_shape((1, 3, frames, *size)):
            return UsageError(
                f"{name} takes several frames of a video at once",
                found=frames,
                wanted=1,
                remedy="give a network that takes one image",
            )
    return None


def _another_tile(trials: Trials, name: str, tile: TileSpec, message: str) -> SrEdgeError | None:
    problem = f"{name} cannot take a {tile} tile ({message})"
    for multiple, larger in _by_multiples(trials, tile):
        if trials.upscales(non_square_tile(larger, 1)):  # the tile was only too small
            larger_one = f"pass a larger tile, for example --tile {larger}"
            return UnsupportedTile(problem, found=tile, supported_tile=larger, multiple_px=1, remedy=larger_one)
        multiples = f"pass multiples of {multiple} for height and width, for example --tile {larger}"
        return UnsupportedTile(problem, found=tile, supported_tile=larger, multiple_px=multiple, remedy=multiples)
    for other in filter(trials.upscales, _other_tiles(tile)):
        return UnsupportedTile(problem, found=tile, supported_tile=other, multiple_px=1, remedy=f"pass --tile {other}")
    return None


def _by_multiples(trials: Trials, tile: TileSpec) -> Iterator[tuple[int, TileSpec]]:
    """Multiples that height and width may have to be, the smallest first, each with the next larger tile."""
    for multiple in MULTIPLES:
        if tile.height % multiple == 0 and tile.width % multiple == 0:
            continue
        larger = TileSpec(*(-(-length // multiple) * multiple for length in (tile.height, tile.width)))
        if trials.upscales(larger) and trials.upscales(non_square_tile(larger, multiple)):
            yield multiple, larger


def non_square_tile(tile: TileSpec, multiple: int) -> TileSpec:
    """A larger tile that is not square; height and width grow by multiples of `multiple`."""
    larger = TileSpec(tile.height + multiple, tile.width + 2 * multiple)
    return larger if larger.height != larger.width else TileSpec(larger.height + multiple, larger.width)


def _other_tiles(tile: TileSpec) -> Iterator[TileSpec]:
    """Square tiles, and the usual tiles of networks that were built for one size."""
    if tile.height != tile.width:
        yield TileSpec(max(tile.height, tile.width), max(tile.height, tile.width))
    for length in FIXED_SIZES:
        yield TileSpec(length, length)

"""Why a network does not run on a tile: other sizes, channels and numbers of frames are tried, then it is said."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from sr_edge.errors import SrEdgeError, TileError, UsageError, WeightsError
from sr_edge.models.probing.trials import TrialLimit, Trials
from sr_edge.spec import TileSpec

MULTIPLES = (2, 3, 4, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)
FIXED_SIDES = (48, 64, 128, 224, 256)
CHANNELS = (1, 4, 2, 6, 9, 12)
FRAMES = (3, 5, 7)
SMALL_PX = 64


class TileMisfit(TileError):
    """A network does not take a tile, and takes another: `fitting`, whose sides are multiples of `multiple_px`."""

    def __init__(self, problem: str, *, found: TileSpec, fitting: TileSpec, multiple_px: int, remedy: str) -> None:
        super().__init__(problem, found=found, wanted=fitting, remedy=remedy)
        self.fitting = fitting
        self.multiple_px = multiple_px


def explained_failure(
    network: nn.Module, name: str, tile: TileSpec, message: str, limit: TrialLimit | None = None
) -> SrEdgeError:
    """The error for a network that raised `message` on a picture of `tile` pixels.

    Args:
        limit: of what is tried to find the cause; None for the usual one.
    """
    trials = Trials(network, limit or TrialLimit())
    misfit = _another_input(trials, name) or _another_tile(trials, name, tile, message)
    return misfit or WeightsError(
        f"{name} cannot run on a 1x3x{tile} picture ({message}), nor on any of {trials.runs} inputs of other sizes, "
        f"channels and numbers of frames",
        found=tile,
        remedy="check its code, or pass the --tile that it was made for",
    )


def _another_input(trials: Trials, name: str) -> SrEdgeError | None:
    """The error for a network that takes other channels, or several frames; found on a small picture.

    A network that takes RGB there fails at its tile for the size alone, and may take any number of channels.
    """
    sides = (SMALL_PX, SMALL_PX)
    if trials.answer((1, 3, *sides)):
        return None
    for channels in CHANNELS:
        if trials.answer((1, channels, *sides)):
            noun = "channel" if channels == 1 else "channels"
            return UsageError(
                f"{name} takes pictures of {channels} {noun}",
                found=channels,
                wanted=3,
                remedy="give a network from RGB to RGB",
            )
    for frames in FRAMES:
        if trials.answer((1, frames, 3, *sides)) or trials.answer((1, 3, frames, *sides)):
            return UsageError(
                f"{name} takes several frames of a video at once",
                found=frames,
                wanted=1,
                remedy="give a network that takes one picture",
            )
    return None


def _another_tile(trials: Trials, name: str, tile: TileSpec, message: str) -> SrEdgeError | None:
    problem = f"{name} cannot take a {tile} tile ({message})"
    for multiple, larger in _by_multiples(trials, tile):
        if trials.upscales(oblong(larger, 1)):  # it was the smallest side alone
            larger_one = f"pass a larger tile, for example --tile {larger}"
            return TileMisfit(problem, found=tile, fitting=larger, multiple_px=1, remedy=larger_one)
        multiples = f"pass multiples of {multiple} for height and width, for example --tile {larger}"
        return TileMisfit(problem, found=tile, fitting=larger, multiple_px=multiple, remedy=multiples)
    for other in filter(trials.upscales, _other_tiles(tile)):
        return TileMisfit(problem, found=tile, fitting=other, multiple_px=1, remedy=f"pass --tile {other}")
    return None


def _by_multiples(trials: Trials, tile: TileSpec) -> Iterator[tuple[int, TileSpec]]:
    """Numbers that must divide both sides, the smallest first, each with the next larger tile."""
    for multiple in MULTIPLES:
        if tile.height % multiple == 0 and tile.width % multiple == 0:
            continue
        larger = TileSpec(*(-(-side // multiple) * multiple for side in (tile.height, tile.width)))
        if trials.upscales(larger) and trials.upscales(oblong(larger, multiple)):
            yield multiple, larger


def oblong(tile: TileSpec, multiple: int) -> TileSpec:
    """Another tile, larger by steps of `multiple`, that is not square."""
    more = TileSpec(tile.height + multiple, tile.width + 2 * multiple)
    return more if more.height != more.width else TileSpec(more.height + multiple, more.width)


def _other_tiles(tile: TileSpec) -> Iterator[TileSpec]:
    """Square ones, and those of networks that were built for one size."""
    if tile.height != tile.width:
        yield TileSpec(max(tile.height, tile.width), max(tile.height, tile.width))
    for side in FIXED_SIDES:
        yield TileSpec(side, side)

"""Why a network does not run on a tile: other sizes, channels and numbers of frames are tried, then it is said."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sr_edge.errors import SrEdgeError, TileError, UsageError, WeightsError
from sr_edge.spec import TileSpec

MULTIPLES = (2, 3, 4, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)
FIXED_SIDES = (48, 64, 128, 224, 256)
CHANNELS = (1, 4, 2, 6, 9, 12)
FRAMES = (3, 5, 7)
MAX_TRIAL_PIXELS = 512 * 512


def explained_failure(network: nn.Module, name: str, tile: TileSpec, message: str) -> SrEdgeError:
    """The error for a network that raised `message` on a picture of `tile` pixels."""
    working = _working_tiles(network, tile)
    if working:
        return TileError(f"{name} cannot take a {tile} tile ({message}); {working}")
    small = TileSpec(min(tile.height, 64), min(tile.width, 64))
    for channels in CHANNELS:
        if _runs(network, (1, channels, small.height, small.width)):
            noun = "channel" if channels == 1 else "channels"
            return UsageError(f"{name} takes pictures of {channels} {noun}; networks from RGB to RGB are supported")
    for frames in FRAMES:
        shapes = ((1, frames, 3, small.height, small.width), (1, 3, frames, small.height, small.width))
        if any(_runs(network, shape) for shape in shapes):
            return UsageError(f"{name} takes several frames of a video at once; networks that take one are supported")
    return WeightsError(f"{name} cannot run on a 1x3x{tile} picture: {message}")


def _working_tiles(network: nn.Module, tile: TileSpec) -> str:
    """Which tiles the network takes instead, as a clause; empty where none was found."""
    for multiple in MULTIPLES:
        if tile.height % multiple == 0 and tile.width % multiple == 0:
            continue
        larger = TileSpec(*(-(-side // multiple) * multiple for side in (tile.height, tile.width)))
        if _takes(network, larger) and _takes(network, _oblong(larger, multiple)):
            return f"both sides must be multiples of {multiple}, for example --tile {larger}"
    for other in _other_tiles(tile):
        if _takes(network, other):
            return f"it takes {other}, so pass --tile {other}"
    return ""


def _oblong(tile: TileSpec, multiple: int) -> TileSpec:
    """Another tile, larger by steps of `multiple`, that is not square."""
    more = TileSpec(tile.height + multiple, tile.width + 2 * multiple)
    return more if more.height != more.width else TileSpec(more.height + multiple, more.width)


def _other_tiles(tile: TileSpec) -> Iterator[TileSpec]:
    """Square ones, and those of networks that were built for one size."""
    if tile.height != tile.width:
        yield TileSpec(max(tile.height, tile.width), max(tile.height, tile.width))
    for side in FIXED_SIDES:
        yield TileSpec(side, side)


def _takes(network: nn.Module, tile: TileSpec) -> bool:
    return tile.height * tile.width <= MAX_TRIAL_PIXELS and _runs(network, (1, 3, tile.height, tile.width))


def _runs(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the network gives a picture, or a row of them, of an input of this shape."""
    try:
        with torch.no_grad():
            answer = network(torch.zeros(shape))
    except Exception:  # whatever the network's code raises
        return False
    return isinstance(answer, Tensor) and answer.dim() >= 4

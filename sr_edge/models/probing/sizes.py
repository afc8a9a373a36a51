"""Finds the sizes that a network supports besides the probed tile, by running it on a few of them."""

from __future__ import annotations

import dataclasses
import math

from torch import nn

from sr_edge.models.probing.failures import non_square_tile
from sr_edge.models.probing.probe import Probe
from sr_edge.models.probing.trials import TrialLimit, Trials
from sr_edge.spec import TileSpec

SMALL_PX = 64
LIMIT = TrialLimit(runs=10, seconds=10.0)


def probe_sizes(network: nn.Module, name: str, probe: Probe, limit: TrialLimit = LIMIT) -> Probe:
    """Completes a probe with the multiple of height and width of all supported tiles, and whether they must be square.

    For a network that supports no other size, multiple and minimum are those of the tile, and a remark is added. The
    same applies where `limit` ends the trials early, since a size that was not run successfully is not promised.

    Args:
        network: the network, in eval mode; it takes (1, channels, height, width).
        name: what the remark calls it.
        probe: the result of `probe_network`.
        limit: limit of the trials.
    """
    trials = Trials(network, limit, probe.channels)
    tile = _small_tile(trials, probe)
    if trials.upscales(non_square_tile(tile, 1), probe.scale):
        return dataclasses.replace(probe, multiple_px=1)
    is_known = probe.multiple_px > 1
    multiple = probe.multiple_px if is_known else _multiple(trials, tile, probe)
    if multiple is None:
        return _one_size(name, probe)
    is_square = tile.height == tile.width and not trials.upscales(non_square_tile(tile, multiple), probe.scale)
    return dataclasses.replace(probe, multiple_px=multiple, square=is_square)


def _small_tile(trials: Trials, probe: Probe) -> TileSpec:
    """A smaller tile with the same remainders, if the network supports it, since runs on it take less time."""
    tile = TileSpec(*(SMALL_PX + length % SMALL_PX for length in (probe.tile.height, probe.tile.width)))
    is_smaller = 2 * tile.height * tile.width <= probe.tile.height * probe.tile.width
    return tile if is_smaller and trials.upscales(tile, probe.scale) else probe.tile


def _multiple(trials: Trials, tile: TileSpec, probe: Probe) -> int | None:
    """The smallest divisor of height and width by which `tile` can grow; None if it cannot grow by their GCD either.

    Each prime factor is removed as long as the network runs, so 96 pixels take eight runs instead of twelve.
    """
    divisor = common = math.gcd(tile.height, tile.width, probe.tile.height, probe.tile.width)
    for prime in _prime_factors(common):
        while divisor % prime == 0 and trials.upscales(_grown(tile, divisor // prime), probe.scale):
            divisor //= prime
    return divisor if divisor < common or trials.upscales(_grown(tile, common), probe.scale) else None


def _grown(tile: TileSpec, by_px: int) -> TileSpec:
    return TileSpec(tile.height + by_px, tile.width + by_px)


def _prime_factors(number: int) -> list[int]:
    return [n for n in range(2, number + 1) if number % n == 0 and all(n % smaller for smaller in range(2, n))]


def _one_size(name: str, probe: Probe) -> Probe:
    height, width = probe.tile.height, probe.tile.width
    remark = f"{name} runs on tiles of {probe.tile} pixels only; deploy it with --tile {probe.tile}"
    return dataclasses.replace(
        probe,
        multiple_px=math.gcd(height, width),
        minimum_px=min(height, width),
        square=height == width,
        remarks=(remark,),
    )

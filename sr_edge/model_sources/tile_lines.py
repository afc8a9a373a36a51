"""Messages about the tiles of frames: which were chosen and why, and what a tile that fits would gain."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.bundle import Bundle
from sr_edge.spec import FrameFormat, ModelCard, TileSpec
from sr_edge.upscaler.tile_choice import TileChoice

WORTHWHILE = 0.9
"""A tile for this size of frames is suggested where it has at most this share of the pixels that are computed now."""


def tiles_line(choice: TileChoice, bundle: Bundle, suggests_frame: bool = True) -> str:
    """The tiles of frames of one size in one line; empty where there was no choice and there is nothing to gain.

    Args:
        choice: The tiles of the frames.
        bundle: The bundle.
        suggests_frame: Whether to add what `sr-edge deploy --frame` would gain, where no tile fits.
    """
    line = str(choice) if choice.others else ""
    card, plan, is_nv12 = bundle.manifest.card, choice.plan, choice.io is FrameFormat.NV12
    share = fitted_share(choice, card)
    is_deployed = bool(bundle.manifest.golden)
    if not suggests_frame or not is_deployed or share > WORTHWHILE:
        return line
    if is_nv12 and any(tile.height >= plan.height and tile.width >= plan.width for tile in bundle.manifest.tiles):
        return line  # the bundle has a tile that fits, without an NV12 graph
    advice = (
        f"{line or choice}; no tile of {bundle.path.name} fits these frames: one of `sr-edge deploy --frame "
        f"{plan.width}x{plan.height}` has {share:.2f} of the pixels, so a frame would take an estimated {share:.2f} of "
        "the time or less"
    )
    if not is_nv12:
        return advice
    fitting = _fitting_tile(choice, card)
    return f"{advice} without nv12; only the main tile has an NV12 graph, and `--tile {fitting}` makes that tile fit"


def fitted_share(choice: TileChoice, card: ModelCard) -> float:
    """The number of pixels of a tile that fits the whole frame, divided by that of the chosen tiles.

    Args:
        choice: The tiles of the frame.
        card: The model card.

    Returns:
        At most 1 where a fitting tile has fewer pixels. Infinity for a network that takes square tiles only.
    """
    if card.square_tiles:
        return float("inf")
    fitting = _fitting_tile(choice, card)
    return fitting.height * fitting.width / choice.chosen.pixels


def _fitting_tile(choice: TileChoice, card: ModelCard) -> TileSpec:
    """The smallest tile of a network that covers the whole frame."""
    edges = (max(edge, card.minimum_px) for edge in (choice.plan.height, choice.plan.width))
    return TileSpec(*(-(-edge // card.multiple_px) * card.multiple_px for edge in edges))


def tile_reporter(
    bundle: Bundle, on_event: Callable[[str], object], suggests_frame: bool = True
) -> Callable[[TileChoice], None]:
    """A function for `Upscaler(on_tiles=...)` that reports each line once.

    Args:
        bundle: The bundle, which is open.
        on_event: Called with each line.
        suggests_frame: As for `tiles_line`.
    """
    reported: set[str] = set()

    def on_tiles(choice: TileChoice) -> None:
        line = tiles_line(choice, bundle, suggests_frame)
        if line and line not in reported:
            reported.add(line)
            on_event(line)

    return on_tiles

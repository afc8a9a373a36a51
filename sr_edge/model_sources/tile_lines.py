"""Messages about the tiles of frames: which were chosen and why, and what a tile that fits would gain."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.bundle import Bundle
from sr_edge.spec import ModelCard
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
    share = fitted_share(choice, bundle.manifest.card)
    is_deployed = bool(bundle.manifest.golden)
    if not suggests_frame or not is_deployed or share > WORTHWHILE:
        return line
    frame = f"{choice.plan.width}x{choice.plan.height}"
    return (
        f"{line or choice}; no tile of {bundle.path.name} fits these frames: one of `sr-edge deploy --frame {frame}` "
        f"has {share:.2f} of the pixels, so a frame would take an estimated {share:.2f} of the time or less"
    )


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
    edges = (max(edge, card.minimum_px) for edge in (choice.plan.height, choice.plan.width))
    height, width = (-(-edge // card.multiple_px) * card.multiple_px for edge in edges)
    return height * width / choice.chosen.pixels


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

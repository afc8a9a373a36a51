"""What the user is told about the tiles of frames: which were chosen and why, and what a tile that fits would gain."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.bundle import Bundle
from sr_edge.spec import ModelCard
from sr_edge.upscaler.tile_choice import TileChoice

WORTHWHILE = 0.9
"""A tile of its own is suggested for a size of frames where it has at most this share of the pixels computed now."""


def tiles_line(choice: TileChoice, bundle: Bundle, suggests_frame: bool = True) -> str:
    """The tiles of frames of one size in one line; empty where there was no choice and is nothing to gain.

    Args:
        choice: The tiles of the frames.
        bundle: The bundle.
        suggests_frame: Whether to say what `sr-edge deploy --frame` would gain, where no tile fits.
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


def say_tiles(
    bundle: Bundle, say: Callable[[str], object], suggests_frame: bool = True
) -> Callable[[TileChoice], None]:
    """A function for `Upscaler(on_tiles=...)` that says each line once.

    Args:
        bundle: The bundle, which is open.
        say: Called with each line.
        suggests_frame: As for `tiles_line`.
    """
    said: set[str] = set()

    def on_tiles(choice: TileChoice) -> None:
        line = tiles_line(choice, bundle, suggests_frame)
        if line and line not in said:
            said.add(line)
            say(line)

    return on_tiles

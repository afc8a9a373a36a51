"""Inputs that export checks run on: photographs, flat pictures, and the extremes that a camera or a screen produces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sr_edge.frames import batch_from_frame
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.spec import TileSpec

Patch = npt.NDArray[np.float32]

PICTURES = Path(str(files("sr_edge.export") / "pictures"))
"""Two low-resolution photographs for those who have none at hand (examples/pictures/README.md names their sources)."""


class PatchKind(str, Enum):
    """What a patch stands for. Photographs and flat pictures always count; worst cases have rules of their own."""

    PHOTOGRAPH = "photograph"
    FLAT = "flat picture"
    WORST_CASE = "worst case"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class CheckPatch:
    """One named input: `batch` is float32 (1, 3, height, width) in [0, 1]."""

    name: str
    kind: PatchKind
    batch: Patch


def check_patches(tile: TileSpec, photographs: Sequence[Patch] = ()) -> tuple[CheckPatch, ...]:
    """Photographs, flat pictures and worst cases of the tile's size.

    Args:
        tile: height and width.
        photographs: float32 (1, 3, height, width) in [0, 1]; one of the bundled ones joins them, since a user's may be
            black, and without any both bundled ones are taken.
    """
    bundled = [_centre_of(path, tile) for path in list_pictures(PICTURES)]
    taken = [*photographs, *(bundled[:1] if photographs else bundled)]
    named = [(f"photograph {number}", PatchKind.PHOTOGRAPH, batch) for number, batch in enumerate(taken, start=1)]
    black, binary, step = worst_case_patches(tile)
    named += [
        ("black", PatchKind.FLAT, black),
        ("white", PatchKind.FLAT, np.ones_like(black)),
        ("binary noise", PatchKind.WORST_CASE, binary),
        ("noisy step", PatchKind.WORST_CASE, step),
    ]
    return tuple(CheckPatch(*entry) for entry in named)


def worst_case_patches(tile: TileSpec) -> tuple[Patch, ...]:
    """Float32 (1, 3, height, width) in [0, 1]: black, binary noise, and a step on noise.

    A flat picture makes variances as small as they get, binary noise makes activations as large as they get.
    """
    shape = (1, 3, tile.height, tile.width)
    generator = np.random.default_rng(0)
    columns = np.arange(tile.width)
    binary = generator.integers(0, 2, shape)
    step = np.where(columns < tile.width // 2, 0.1, 0.9) + 0.1 * generator.random(shape)
    pictures = (np.zeros(shape), binary, step)
    return tuple(np.ascontiguousarray(picture, dtype=np.float32) for picture in pictures)


def colour_casts(photograph: Patch) -> Iterator[Patch]:
    """A photograph tinted in each colour and pair of colours, dark, bright, inverted, gray and saturated."""
    for red, green, blue in product((0.3, 1.0), repeat=3):
        yield photograph * np.array([red, green, blue], np.float32)[:, np.newaxis, np.newaxis]
    gray = photograph.mean(1, keepdims=True)
    others = (photograph * 0.05, 1.0 - 0.05 * (1.0 - photograph), 1.0 - photograph, gray.repeat(3, axis=1))
    for other in (*others, np.clip(gray + 3.0 * (photograph - gray), 0.0, 1.0)):
        yield np.ascontiguousarray(other, dtype=np.float32)


def _centre_of(path: Path, tile: TileSpec) -> Patch:
    """The middle of a picture file; a picture smaller than the tile is continued by reflection."""
    batch = batch_from_frame(read_picture(path).pixels)
    missing = [
        (0, max(0, wanted - there)) for wanted, there in zip((tile.height, tile.width), batch.shape[2:], strict=True)
    ]
    padded = np.pad(batch, [(0, 0), (0, 0), *missing], mode="symmetric")
    top, left = (
        (there - wanted) // 2 for wanted, there in zip((tile.height, tile.width), padded.shape[2:], strict=True)
    )
    return np.ascontiguousarray(padded[..., top : top + tile.height, left : left + tile.width])

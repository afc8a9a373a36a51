"""The inputs of export checks: photographs, flat pictures, and the extremes that cameras and screens produce."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sr_edge.channels import batch_for_network
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.spec import TileSpec

Patch = npt.NDArray[np.float32]

PICTURES = Path(str(files("sr_edge.export") / "pictures"))
"""Two bundled low-resolution photographs, the default images (examples/pictures/README.md names their sources)."""


class PatchKind(str, Enum):
    """The kind of a patch. Checks must pass on photographs and flat pictures; worst cases have rules of their own."""

    PHOTOGRAPH = "photograph"
    FLAT = "flat picture"
    WORST_CASE = "worst case"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class CheckPatch:
    """A named input of checks; `batch` is float32 (1, channels, height, width) in [0, 1]."""

    name: str
    kind: PatchKind
    batch: Patch


def check_patches(tile: TileSpec, photographs: Sequence[Patch] = (), channels: int = 3) -> tuple[CheckPatch, ...]:
    """Photographs, flat pictures and worst cases of the size of the tile.

    Args:
        tile: Height and width.
        photographs: Float32 (1, channels, height, width) in [0, 1]. One of the bundled photographs is added, since the
            user's may be black; without any, both bundled ones are used.
        channels: The number of channels of the network.
    """
    bundled = [_centre_crop(path, tile, channels) for path in list_pictures(PICTURES)]
    batches = [*photographs, *(bundled[:1] if photographs else bundled)]
    named = [(f"photograph {number}", PatchKind.PHOTOGRAPH, batch) for number, batch in enumerate(batches, start=1)]
    black, binary, step = worst_case_patches(tile, channels)
    named += [
        ("black", PatchKind.FLAT, black),
        ("white", PatchKind.FLAT, np.ones_like(black)),
        ("binary noise", PatchKind.WORST_CASE, binary),
        ("noisy step", PatchKind.WORST_CASE, step),
    ]
    return tuple(CheckPatch(*entry) for entry in named)


def worst_case_patches(tile: TileSpec, channels: int = 3) -> tuple[Patch, ...]:
    """Float32 (1, channels, height, width) in [0, 1]: black, binary noise, and a noisy step.

    A flat picture gives the smallest variances that a network can see, and binary noise the largest activations.
    """
    shape = (1, channels, tile.height, tile.width)
    generator = np.random.default_rng(0)
    columns = np.arange(tile.width)
    binary = generator.integers(0, 2, shape)
    step = np.where(columns < tile.width // 2, 0.1, 0.9) + 0.1 * generator.random(shape)
    patches = (np.zeros(shape), binary, step)
    return tuple(np.ascontiguousarray(patch, dtype=np.float32) for patch in patches)


def colour_casts(photograph: Patch) -> Iterator[Patch]:
    """Yields a photograph with each set of channels darkened, then dark, bright, inverted, gray and saturated.

    Of a photograph with alpha, the alpha channel is changed like the colours.
    """
    channels = photograph.shape[1]
    for factors in product((0.3, 1.0), repeat=channels):
        yield photograph * np.array(factors, np.float32)[:, np.newaxis, np.newaxis]
    gray = photograph.mean(1, keepdims=True)
    variants = (photograph * 0.05, 1.0 - 0.05 * (1.0 - photograph), 1.0 - photograph, gray.repeat(channels, axis=1))
    for variant in (*variants, np.clip(gray + 3.0 * (photograph - gray), 0.0, 1.0)):
        yield np.ascontiguousarray(variant, dtype=np.float32)


def _centre_crop(path: Path, tile: TileSpec, channels: int) -> Patch:
    """The centre of an image file; an image smaller than the tile is padded by reflection."""
    batch = batch_for_network(read_picture(path).pixels, channels)
    size = (tile.height, tile.width)
    padding = [(0, max(0, wanted - actual)) for wanted, actual in zip(size, batch.shape[2:], strict=True)]
    padded = np.pad(batch, [(0, 0), (0, 0), *padding], mode="symmetric")
    top, left = ((actual - wanted) // 2 for wanted, actual in zip(size, padded.shape[2:], strict=True))
    return np.ascontiguousarray(padded[..., top : top + tile.height, left : left + tile.width])

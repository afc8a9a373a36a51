"""Checks the pictures that patches are cut from: warns of damaged ones, duplicates, and those smaller than a patch."""

from __future__ import annotations

import hashlib

from sr_edge.errors import FrameError
from sr_edge.frames import Frame
from sr_edge.spec import TileSpec


class PictureChecks:
    """Collects the size and digest of each picture, or its error, and derives warnings from them."""

    def __init__(self, tile: TileSpec) -> None:
        self._tile = tile
        self._sizes: list[tuple[int, int]] = []
        self._digests: set[bytes] = set()
        self._skipped: list[str] = []

    def add(self, picture: Frame | FrameError) -> None:
        if isinstance(picture, FrameError):
            self._skipped.append(str(picture))
            return
        self._sizes.append(picture.shape[:2])
        self._digests.add(hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).digest())

    def warnings(self) -> list[str]:
        """The warnings; the errors of the pictures that were skipped come first."""
        return [*self._skipped, *filter(None, (self._count_skipped(), self._small(), self._copies()))]

    def _count_skipped(self) -> str:
        skipped = len(self._skipped)
        return f"{skipped} of {skipped + len(self._sizes)} pictures {_were(skipped)} skipped" if skipped else ""

    def _small(self) -> str:
        small = [size for size in self._sizes if size[0] < self._tile.height or size[1] < self._tile.width]
        if not small:
            return ""
        height, width = min(small, key=lambda size: size[0] * size[1])
        return (
            f"{len(small)} of {len(self._sizes)} pictures {_were(len(small))} smaller than {self._tile} (smallest "
            f"{height}x{width}) and padded by reflection"
        )

    def _copies(self) -> str:
        different, total = len(self._digests), len(self._sizes)
        return f"only {different} different picture{'s' * (different > 1)} among {total}" if different < total else ""


def _were(count: int) -> str:
    return "was" if count == 1 else "were"

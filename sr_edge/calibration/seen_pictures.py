"""What the pictures are like that patches are cut from: damaged ones, copies, and those smaller than a patch."""

from __future__ import annotations

import hashlib

from sr_edge.errors import FrameError
from sr_edge.frames import Frame
from sr_edge.spec import TileSpec


class PictureChecks:
    """Remembers of each picture, or of what was wrong with it, no more than its warnings need."""

    def __init__(self, tile: TileSpec) -> None:
        self._tile = tile
        self._sizes: list[tuple[int, int]] = []
        self._digests: set[bytes] = set()
        self._skipped: list[str] = []

    def add(self, read: Frame | FrameError) -> None:
        if isinstance(read, FrameError):
            self._skipped.append(str(read))
            return
        self._sizes.append(read.shape[:2])
        self._digests.add(hashlib.sha256(str(read.shape).encode() + read.tobytes()).digest())

    def warnings(self) -> list[str]:
        """In words, with the numbers; the reason of each picture that was skipped comes first."""
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
            f"{height}x{width}) and continued by reflection"
        )

    def _copies(self) -> str:
        different, read = len(self._digests), len(self._sizes)
        return f"only {different} different picture{'s' * (different > 1)} among {read}" if different < read else ""


def _were(count: int) -> str:
    return "was" if count == 1 else "were"

"""The matrix and the range of NV12 frames."""

from __future__ import annotations

from enum import Enum

from sr_edge.errors import UsageError
from sr_edge.spec import FrameFormat


class Nv12Colour(str, Enum):
    """The matrix and the range of the samples of NV12 frames."""

    BT601_LIMITED = "bt601-limited"
    BT601_FULL = "bt601-full"
    BT709_LIMITED = "bt709-limited"
    BT709_FULL = "bt709-full"

    def __str__(self) -> str:
        return self.value

    @property
    def is_full_range(self) -> bool:
        """Whether black is 0 and white 255, instead of 16 and 235."""
        return self in (Nv12Colour.BT601_FULL, Nv12Colour.BT709_FULL)

    @property
    def is_bt709(self) -> bool:
        """Whether the matrix is that of BT.709, instead of BT.601."""
        return self in (Nv12Colour.BT709_LIMITED, Nv12Colour.BT709_FULL)


DEFAULT_NV12_COLOUR = Nv12Colour.BT709_LIMITED
"""Matrix and range of most cameras with 720 rows or more."""


def require_nv12_colour(io: FrameFormat, colour: Nv12Colour | None) -> None:
    """Raises UsageError unless NV12 frames, and no others, have a colour."""
    if (io is FrameFormat.NV12) != (colour is not None):
        raise UsageError(
            f"{io} frames {'have no colour' if colour is None else f'were given the colour {colour}'}",
            found=str(colour) if colour else None,
            wanted=tuple(map(str, Nv12Colour)) if io is FrameFormat.NV12 else None,
            remedy="give the matrix and range of NV12 frames, and of no others, for example bt709-limited",
        )

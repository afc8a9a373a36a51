"""One frame of video in memory: planes as they were decoded, what their numbers mean, when it is to be shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError

Plane = npt.NDArray[np.unsignedinteger[Any]]
"""(rows, columns), or (rows, columns, components) where components alternate; rows may lie apart (a stride)."""

UNSPECIFIED = 2
"""What H.273 writes where a matrix, primaries or transfer are not told."""


class ColourRange(IntEnum):
    """Which codes are black and white; the numbers are FFmpeg's."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


@dataclass(frozen=True)
class Colour:
    """What samples mean: their range, and the code points of ITU-T H.273 for matrix, primaries and transfer."""

    range: ColourRange = ColourRange.UNSPECIFIED
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


class Chroma(Enum):
    """How many columns and rows of luma share one sample of colour; RGB and gray share none."""

    C420 = (2, 2)
    C422 = (2, 1)
    C444 = (1, 1)


@dataclass(frozen=True)
class PlaneLayout:
    """One plane of a format: columns and rows of the picture to one of the plane's, and components side by side."""

    every_columns: int = 1
    every_rows: int = 1
    components: int = 1

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of the plane of a picture; a last odd row or column has a sample of its own."""
        rows, columns = -(-height // self.every_rows), -(-width // self.every_columns)
        return (rows, columns) if self.components == 1 else (rows, columns, self.components)


class PixelFormat(str, Enum):
    """The formats that frames may have; the values are FFmpeg's names."""

    I420 = "yuv420p"
    NV12 = "nv12"
    I422 = "yuv422p"
    I444 = "yuv444p"
    I420_10 = "yuv420p10le"
    P010 = "p010le"
    I422_10 = "yuv422p10le"
    I444_10 = "yuv444p10le"
    GRAY = "gray"
    GRAY_10 = "gray10le"
    RGB = "rgb24"
    RGB_16 = "rgb48le"

    def __str__(self) -> str:
        return self.value

    @property
    def is_rgb(self) -> bool:
        return self in (PixelFormat.RGB, PixelFormat.RGB_16)

    @property
    def bits(self) -> int:
        """Meaningful bits of a sample: 8, 10 or 16. P010 holds its 10 in the upper bits of 16."""
        return {"10le": 10, "48le": 16}.get(self.value[-4:], 8)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")

    @property
    def chroma(self) -> Chroma | None:
        """None where no plane is colour alone."""
        if self in (PixelFormat.NV12, PixelFormat.P010):
            return Chroma.C420
        return {"yuv420": Chroma.C420, "yuv422": Chroma.C422, "yuv444": Chroma.C444}.get(self.value[:6])

    @property
    def layout(self) -> tuple[PlaneLayout, ...]:
        """The planes, brightness first; their order is FFmpeg's."""
        if self.is_rgb:
            return (PlaneLayout(components=3),)
        if self.chroma is None:
            return (PlaneLayout(),)
        columns, rows = self.chroma.value
        if self in (PixelFormat.NV12, PixelFormat.P010):
            return PlaneLayout(), PlaneLayout(columns, rows, 2)
        return PlaneLayout(), PlaneLayout(columns, rows), PlaneLayout(columns, rows)


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame. Its planes are read only by agreement: other stages may hold the same memory.

    Attributes:
        planes: as `format.layout` says, of `format.dtype`.
        pts: when it is to be shown, in units of `time_base`; None where the source does not tell.
        time_base: seconds of one unit of `pts`.
        captured_ns: when it was complete in this process, by `time.monotonic_ns`; 0 means when it came to the loop.
        sequence: its number in its source from 0; a gap is a frame that was lost or dropped.
    """

    planes: tuple[Plane, ...]
    format: PixelFormat
    colour: Colour = Colour()
    pts: int | None = None
    time_base: Fraction = Fraction(1, 90_000)
    captured_ns: int = 0
    sequence: int = 0

    def __post_init__(self) -> None:
        given = [(str(plane.dtype), plane.shape) for plane in self.planes]
        if not given or 0 in given[0][1]:
            raise FrameError(
                f"a frame needs at least one pixel, found {_listed(given)}",
                found=given,
                wanted="at least one row and one column",
                remedy="pass planes with at least one row and one column",
            )
        expected = [(str(self.format.dtype), part.shape(*self.planes[0].shape[:2])) for part in self.format.layout]
        if given != expected:
            raise FrameError(
                f"the planes of a {self.format} frame are {_listed(given)}, but {_listed(expected)} are needed",
                found=given,
                wanted=expected,
                remedy="pass planes whose data type and shape match the format and the first plane",
            )

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def time_s(self) -> float | None:
        """When it is to be shown, in seconds."""
        return None if self.pts is None else float(self.pts * self.time_base)

    def with_planes(
        self, planes: tuple[Plane, ...], format: PixelFormat | None = None, colour: Colour | None = None
    ) -> VideoFrame:
        """Other pixels at the same place in the stream."""
        return replace(self, planes=planes, format=format or self.format, colour=colour or self.colour)

    def cropped(self, left: int, top: int, width: int, height: int) -> VideoFrame:
        """The part of `width` x `height` pixels at (`left`, `top`); its planes are views.

        Raises:
            FrameError: the part is not inside, or would cut through a sample of colour.
        """
        inside = 0 <= left < left + width <= self.width and 0 <= top < top + height <= self.height
        if not inside:
            raise FrameError(
                f"the region {left},{top},{width},{height} is not inside the frame of {self.width}x{self.height}",
                found=(left, top, width, height),
                wanted=(self.width, self.height),
                remedy="give left,top,width,height in pixels, within the frame",
            )
        columns, rows = self.format.chroma.value if self.format.chroma else (1, 1)
        if left % columns or top % rows or ((left + width) % columns and left + width != self.width):
            raise self._cut_colour(left, top, width, height)
        if (top + height) % rows and top + height != self.height:
            raise self._cut_colour(left, top, width, height)
        return self.with_planes(
            tuple(
                plane[
                    top // part.every_rows : -(-(top + height) // part.every_rows),
                    left // part.every_columns : -(-(left + width) // part.every_columns),
                ]
                for plane, part in zip(self.planes, self.format.layout, strict=True)
            )
        )

    def _cut_colour(self, left: int, top: int, width: int, height: int) -> FrameError:
        left_even, top_even = left - left % 2, top - top % 2
        columns = min(max(2, width - width % 2), self.width - left_even)
        rows = min(max(2, height - height % 2), self.height - top_even)
        return FrameError(
            f"the region {left},{top},{width},{height} cuts through chroma samples, which neighbouring pixels of "
            f"{self.format} share",
            found=(left, top, width, height),
            wanted=(left_even, top_even, columns, rows),
            remedy=f"give even numbers, for example {left_even},{top_even},{columns},{rows}",
        )


def _listed(planes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in planes) or "no planes"

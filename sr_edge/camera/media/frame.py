"""One frame of video in memory: its planes as they were decoded, its pixel format, its colour and its timestamp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError
from sr_edge.spec import member_of, take_names
from sr_edge.upscaler.reuse import FrameReuse

Plane = npt.NDArray[np.unsignedinteger[Any]]
"""(rows, columns), or (rows, columns, components) if the components are interleaved. Rows may have a stride."""

UNSPECIFIED = 2
"""The code point of ITU-T H.273 for an unspecified matrix, primaries or transfer."""


class ColourRange(IntEnum):
    """The codes of black and white; the values are those of FFmpeg's AVColorRange."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


@dataclass(frozen=True)
class Colour:
    """The colour range, and the code points of ITU-T H.273 for matrix, primaries and transfer.

    Attributes:
        range: Full or limited range.
        matrix: Code point of the matrix.
        primaries: Code point of the primaries.
        transfer: Code point of the transfer function.
    """

    range: ColourRange = ColourRange.UNSPECIFIED
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


class Chroma(Enum):
    """Chroma subsampling: columns and rows of luma for each sample of chroma. RGB and gray have none."""

    C420 = (2, 2)
    C422 = (2, 1)
    C444 = (1, 1)


@dataclass(frozen=True)
class PlaneLayout:
    """One plane of a pixel format.

    Attributes:
        subsampling_x: columns of the frame for each column of the plane.
        subsampling_y: rows of the frame for each row of the plane.
        components: interleaved components.
    """

    subsampling_x: int = 1
    subsampling_y: int = 1
    components: int = 1

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the plane of a frame of this size; the last odd row or column has samples of its own."""
        rows, columns = -(-height // self.subsampling_y), -(-width // self.subsampling_x)
        return (rows, columns) if self.components == 1 else (rows, columns, self.components)


class PixelFormat(str, Enum):
    """The supported pixel formats; the values are FFmpeg's names."""

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
        """Whether the format is packed RGB."""
        return self in (PixelFormat.RGB, PixelFormat.RGB_16)

    @property
    def bits(self) -> int:
        """Significant bits of a sample: 8, 10 or 16. P010 stores 10 bits in the upper bits of 16."""
        return {"10le": 10, "48le": 16}.get(self.value[-4:], 8)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the planes."""
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")

    @property
    def chroma(self) -> Chroma | None:
        """The chroma subsampling; None for RGB and gray."""
        if self in (PixelFormat.NV12, PixelFormat.P010):
            return Chroma.C420
        return {"yuv420": Chroma.C420, "yuv422": Chroma.C422, "yuv444": Chroma.C444}.get(self.value[:6])

    @property
    def layout(self) -> tuple[PlaneLayout, ...]:
        """The planes in FFmpeg's order: luma first."""
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
    """One frame. Its planes must not be modified, because other stages may use the same memory.

    Attributes:
        planes: with the shapes of `format.layout` and the data type `format.dtype`.
        format: the pixel format.
        colour: the meaning of the samples.
        pts: the presentation timestamp in units of `time_base`; None if the source has none.
        time_base: seconds for each unit of `pts`.
        captured_ns: when the frame was complete in this process, by `time.monotonic_ns`; 0 means when it reached the
            pipeline.
        sequence: the number of the frame in its source, from 0; a gap is a frame that was lost or dropped.
        captured_utc_ns: when the frame was captured by the clock of its camera, in nanoseconds since 1970 UTC; 0 if the
            camera does not report it.
        reuse: of an upscaled frame, which tiles were not computed because they did not change; else None.

    Raises:
        FrameError: the planes do not match the pixel format, or there is no pixel.
    """

    planes: tuple[Plane, ...]
    format: PixelFormat
    colour: Colour = Colour()
    pts: int | None = None
    time_base: Fraction = Fraction(1, 90_000)
    captured_ns: int = 0
    sequence: int = 0
    captured_utc_ns: int = 0
    reuse: FrameReuse | None = None

    def __post_init__(self) -> None:
        take_names(self, format=PixelFormat)
        actual = [(str(plane.dtype), plane.shape) for plane in self.planes]
        if not actual or 0 in actual[0][1]:
            raise FrameError(
                f"a frame needs at least one pixel, found {_listed(actual)}",
                found=actual,
                wanted="at least one row and one column",
                remedy="pass planes with at least one row and one column",
            )
        expected = [(str(self.format.dtype), layout.shape(*self.planes[0].shape[:2])) for layout in self.format.layout]
        if actual != expected:
            raise FrameError(
                f"the planes of a {self.format} frame are {_listed(actual)}, but {_listed(expected)} are needed",
                found=actual,
                wanted=expected,
                remedy="pass planes whose data type and shape match the format and the first plane",
            )

    def __repr__(self) -> str:
        time = "no timestamp" if self.time_s is None else f"{self.time_s:.3f} s"
        return f"<VideoFrame {self.sequence}: {self.width}x{self.height} {self.format}, {time}>"

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.planes[0].shape[1])

    @property
    def time_s(self) -> float | None:
        """The presentation time in seconds; None if the source has none."""
        return None if self.pts is None else float(self.pts * self.time_base)

    def with_planes(
        self, planes: tuple[Plane, ...], format: PixelFormat | str | None = None, colour: Colour | None = None
    ) -> VideoFrame:
        """A frame with other pixels and the same timestamps and number."""
        format = None if format is None else member_of(PixelFormat, format, "pixel format")
        return replace(self, planes=planes, format=format or self.format, colour=colour or self.colour)

    def cropped(self, left: int, top: int, width: int, height: int) -> VideoFrame:
        """Crops the region of `width` x `height` pixels at (`left`, `top`); its planes are views.

        Raises:
            FrameError: the region is not inside the frame, or would divide a chroma sample.
        """
        is_inside = 0 <= left < left + width <= self.width and 0 <= top < top + height <= self.height
        if not is_inside:
            raise FrameError(
                f"the region {left},{top},{width},{height} is not inside the frame of {self.width}x{self.height}",
                found=(left, top, width, height),
                wanted=(self.width, self.height),
                remedy="give left,top,width,height in pixels, within the frame",
            )
        columns, rows = self.format.chroma.value if self.format.chroma else (1, 1)
        if left % columns or top % rows or ((left + width) % columns and left + width != self.width):
            raise self._divides_chroma(left, top, width, height)
        if (top + height) % rows and top + height != self.height:
            raise self._divides_chroma(left, top, width, height)
        return self.with_planes(
            tuple(
                plane[
                    top // layout.subsampling_y : -(-(top + height) // layout.subsampling_y),
                    left // layout.subsampling_x : -(-(left + width) // layout.subsampling_x),
                ]
                for plane, layout in zip(self.planes, self.format.layout, strict=True)
            )
        )

    def _divides_chroma(self, left: int, top: int, width: int, height: int) -> FrameError:
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

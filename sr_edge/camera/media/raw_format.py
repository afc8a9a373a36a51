"""The format of raw video without a header, as in FFmpeg's rawvideo: plane after plane, without padding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sr_edge.camera.media.frame import PixelFormat, Plane
from sr_edge.errors import UsageError
from sr_edge.spec import take_names


@dataclass(frozen=True)
class RawFormat:
    """Pixel format, size and frame rate of raw video.

    Attributes:
        pixel_format: Pixel format of the frames.
        width: Width in pixels.
        height: Height in pixels.
        rate: Frames per second.
    """

    pixel_format: PixelFormat
    width: int
    height: int
    rate: Fraction

    def __post_init__(self) -> None:
        take_names(self, pixel_format=PixelFormat)

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Reads a format such as "nv12:320x180@30".

        Raises:
            UsageError: the text does not have that form.
        """
        match = re.fullmatch(r"(\w+):(\d+)x(\d+)@(\d+(?:/[1-9]\d*)?)", text.strip())
        supported = [pixel_format.value for pixel_format in PixelFormat]
        if match is None or match[1] not in supported or 0 in (int(match[2]), int(match[3]), Fraction(match[4])):
            raise UsageError(
                f"{text!r} is not a raw video format",
                found=text,
                wanted="FORMAT:WIDTHxHEIGHT@RATE",
                remedy="write FORMAT:WIDTHxHEIGHT@RATE, for example nv12:320x180@30, with FORMAT one of "
                + ", ".join(supported),
            )
        return cls(PixelFormat(match[1]), int(match[2]), int(match[3]), Fraction(match[4]))

    @property
    def frame_bytes(self) -> int:
        """Size of one frame."""
        return sum(int(np.prod(shape)) for shape in self._plane_shapes) * self.pixel_format.dtype.itemsize

    def planes(self, content: bytearray) -> tuple[Plane, ...]:
        """The planes of a frame, as views of its `frame_bytes` bytes."""
        samples = np.frombuffer(content, self.pixel_format.dtype)
        planes = []
        start = 0
        for shape in self._plane_shapes:
            size = int(np.prod(shape))
            planes.append(samples[start : start + size].reshape(shape))
            start += size
        return tuple(planes)

    @property
    def _plane_shapes(self) -> list[tuple[int, ...]]:
        return [layout.shape(self.height, self.width) for layout in self.pixel_format.layout]

"""Frames over the memory of GStreamer's buffers: formats by its names, planes at its offsets and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sr_edge.camera.frame import Colour, PixelFormat, Plane
from sr_edge.errors import FrameError

PIXEL_FORMATS = {
    "RGB": PixelFormat.RGB,
    "NV12": PixelFormat.NV12,
    "I420": PixelFormat.I420,
    "P010_10LE": PixelFormat.P010,
    "I420_10LE": PixelFormat.I420_10,
}
"""By GStreamer's names; the order is the order of preference. Planes lie in the same order in both."""


@dataclass(frozen=True)
class BufferLayout:
    """Where the planes of a picture lie in one buffer; `offsets` and `strides` in bytes, one of each a plane."""

    format: PixelFormat
    width: int
    height: int
    offsets: Sequence[int]
    strides: Sequence[int]
    colour: Colour

    def planes(self, memory: memoryview) -> tuple[Plane, ...]:
        """Views of the planes in `memory`, writable where that is; they must be gone before it is unmapped.

        Raises:
            FrameError: the buffer is smaller than the layout.
        """
        return tuple(self._plane(memory, index) for index in range(len(self.format.layout)))

    def _plane(self, memory: memoryview, index: int) -> Plane:
        part, dtype = self.format.layout[index], self.format.dtype
        pixel_bytes = part.components * dtype.itemsize
        strides = (self.strides[index], pixel_bytes, dtype.itemsize)
        shape = part.shape(self.height, self.width)
        try:
            plane: Plane = np.ndarray(shape, dtype, memory, self.offsets[index], strides[: len(shape)])
            return plane
        except (TypeError, ValueError) as error:
            raise FrameError(
                f"a buffer of {memory.nbytes} bytes is too small for plane {index} of {self.width}x{self.height} "
                f"{self.format} at byte {self.offsets[index]} with {self.strides[index]} bytes per row",
                found=memory.nbytes,
                wanted=self.offsets[index] + (shape[0] - 1) * self.strides[index] + shape[1] * pixel_bytes,
                remedy="replace the element before sredge, whose buffers do not match its caps",
            ) from error

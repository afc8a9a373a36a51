"""Planes as NumPy views of the memory of GStreamer's buffers; needs no GStreamer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sr_edge.camera.media.frame import Colour, PixelFormat, Plane
from sr_edge.errors import FrameError

PIXEL_FORMATS = {
    "RGB": PixelFormat.RGB,
    "NV12": PixelFormat.NV12,
    "I420": PixelFormat.I420,
    "P010_10LE": PixelFormat.P010,
    "I420_10LE": PixelFormat.I420_10,
}
"""Pixel formats by GStreamer's names, in the order of preference. Both sides order the planes in the same way."""


@dataclass(frozen=True)
class BufferLayout:
    """Where the planes of a frame are in one buffer.

    Attributes:
        format: Pixel format.
        width: Width of the frame.
        height: Height of the frame.
        offsets: Start of each plane in bytes.
        strides: Bytes per row of each plane.
        colour: Colour tags.
    """

    format: PixelFormat
    width: int
    height: int
    offsets: Sequence[int]
    strides: Sequence[int]
    colour: Colour

    def planes(self, memory: memoryview) -> tuple[Plane, ...]:
        """Views of the planes in `memory`, writable if it is; they must not be used after it is unmapped.

        Raises:
            FrameError: The buffer is smaller than the layout.
        """
        return tuple(self._plane(memory, index) for index in range(len(self.format.layout)))

    def _plane(self, memory: memoryview, index: int) -> Plane:
        plane_layout, dtype = self.format.layout[index], self.format.dtype
        pixel_bytes = plane_layout.components * dtype.itemsize
        strides = (self.strides[index], pixel_bytes, dtype.itemsize)
        shape = plane_layout.shape(self.height, self.width)
        try:
            plane: Plane = np.ndarray(shape, dtype, memory, self.offsets[index], strides[: len(shape)])
            return plane
        except (TypeError, ValueError) as error:
            raise FrameError(
                f"a buffer of {memory.nbytes} bytes is too small for plane {index} of {self.width}x{self.height} "
                f"{self.format} at byte {self.offsets[index]} with {self.strides[index]} bytes per row",
                found=memory.nbytes,
                wanted=self.offsets[index] + (shape[0] - 1) * self.strides[index] + shape[1] * pixel_bytes,
                remedy="replace the element that creates the buffers, which do not match its caps",
            ) from error

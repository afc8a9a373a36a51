"""A folder of pictures as a source: one frame each, in the order of their names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from sr_edge.camera.conversion import RGB_COLOUR
from sr_edge.camera.frame import PixelFormat, VideoFrame
from sr_edge.camera.ports import SourceInfo
from sr_edge.errors import StreamError
from sr_edge.image_files import list_pictures, read_picture


class PictureSource:
    """Frames of 8 or 16 bits; opacity is left out."""

    is_live = False

    def __init__(self, folder: Path, rate: Fraction = Fraction(30)) -> None:
        """Raises StreamError where the folder has no picture, FrameError where there is no folder."""
        self.name = str(folder)
        self.info = SourceInfo(rate)
        self._files = list_pictures(folder)
        self._closed = threading.Event()
        if not self._files:
            raise StreamError(
                f"the folder {folder} contains no image",
                found=folder,
                wanted=("PNG", "JPEG", "TIFF", "WebP"),
                remedy="give a folder with PNG, JPEG, TIFF or WebP files",
            )

    def frames(self) -> Iterator[VideoFrame]:
        """Raises FrameError where a picture cannot be read."""
        rate = self.info.rate or Fraction(30)
        base = Fraction(rate.denominator, rate.numerator)
        for number, file in enumerate(self._files):
            if self._closed.is_set():
                return
            picture = read_picture(file)
            rgb = np.repeat(picture.pixels, 3, axis=2) if picture.is_gray else picture.pixels
            form = PixelFormat.RGB if picture.bits == 8 else PixelFormat.RGB_16
            yield VideoFrame((rgb,), form, RGB_COLOUR, number, base, time.monotonic_ns(), number)

    def close(self) -> None:
        self._closed.set()

"""A folder of images as a source: one frame per image, in the order of the file names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from sr_edge.camera.media.conversion import RGB_COLOUR
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.camera.protocols import SourceInfo
from sr_edge.errors import StreamError
from sr_edge.image_files import list_pictures, read_picture


class ImageFolderSource:
    """RGB frames of 8 or 16 bits; an alpha channel is dropped."""

    is_live = False
    reconnections = 0
    unreadable_packets = 0

    def __init__(self, folder: Path, rate: Fraction = Fraction(30)) -> None:
        """Lists the images of a folder.

        Args:
            folder: the folder of the images.
            rate: frames per second.

        Raises:
            StreamError: the folder contains no image.
            FrameError: the folder cannot be read.
        """
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
        """Iterates over the images.

        Raises:
            FrameError: an image cannot be read.
        """
        rate = self.info.rate or Fraction(30)
        time_base = Fraction(rate.denominator, rate.numerator)
        for number, file in enumerate(self._files):
            if self._closed.is_set():
                return
            image = read_picture(file)
            rgb = np.repeat(image.pixels, 3, axis=2) if image.is_gray else image.pixels
            pixel_format = PixelFormat.RGB if image.bits == 8 else PixelFormat.RGB_16
            yield VideoFrame((rgb,), pixel_format, RGB_COLOUR, number, time_base, time.monotonic_ns(), number)

    def close(self) -> None:
        self._closed.set()

"""A folder of images as a source: one frame per image, in the order of the file names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.conversion import RGB_COLOUR
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.camera.protocols import SourceInfo
from sr_edge.errors import FrameError, StreamError
from sr_edge.frames import Picture
from sr_edge.image_files import note_about_others, read_picture, scan_folder
from sr_edge.opacity import with_visible_colours


class ImageFolderSource:
    """RGB frames of 8 or 16 bits; images that cannot be read are counted.

    Opacity is left out, with the visible colours spread under transparent pixels.
    """

    is_live = False
    reconnections = 0
    is_reconnecting = False

    def __init__(
        self, folder: Path, rate: Fraction = Fraction(30), on_event: Callable[[str], None] = ignore_event
    ) -> None:
        """Lists the images of a folder.

        Args:
            folder: the folder of the images.
            rate: frames per second.
            on_event: called with what is left out: files that are not images, damaged images, and opacity.

        Raises:
            StreamError: the folder contains no image.
            FrameError: the folder cannot be read.
        """
        self.name = str(folder)
        self.info = SourceInfo(rate)
        content = scan_folder(folder)
        self._files = content.pictures
        self._on_event = on_event
        self._closed = threading.Event()
        self.unreadable_packets = 0
        if not self._files:
            raise StreamError(
                f"the folder {folder} contains no image",
                found=folder,
                wanted=("PNG", "JPEG", "TIFF", "WebP"),
                remedy="give a folder with PNG, JPEG, TIFF, WebP or other image files",
            )
        for note in note_about_others(content.others):
            on_event(note)

    def frames(self) -> Iterator[VideoFrame]:
        """Iterates over the images that can be read. One that cannot leaves a gap of one frame.

        Raises:
            FrameError: no image can be read; the error is that of the last one.
        """
        rate = self.info.rate or Fraction(30)
        time_base = Fraction(rate.denominator, rate.numerator)
        has_alpha = False
        for number, file in enumerate(self._files):
            if self._closed.is_set():
                return
            image = self._read(file)
            if image is None:
                continue
            if image.alpha is not None and not has_alpha:
                has_alpha = True
                self._on_event(f"{self.name}: the output will not have: alpha channel")
            pixels = with_visible_colours(image).pixels
            rgb = np.repeat(pixels, 3, axis=2) if image.is_gray else pixels
            pixel_format = PixelFormat.RGB if image.bits == 8 else PixelFormat.RGB_16
            yield VideoFrame((rgb,), pixel_format, RGB_COLOUR, number, time_base, time.monotonic_ns(), number)

    def _read(self, file: Path) -> Picture | None:
        """Reads an image; one that cannot be read is reported and counted, unless none can be."""
        try:
            return read_picture(file)
        except FrameError as error:
            self.unreadable_packets += 1
            if self.unreadable_packets == len(self._files):
                raise
            self._on_event(f"{error}; the frame is left out")
            return None

    def close(self) -> None:
        self._closed.set()

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
from sr_edge.image_files import note_about_others, read_picture, scan_folder
from sr_edge.opacity import with_visible_colours


class ImageFolderSource:
    """RGB frames of 8 or 16 bits. Opacity is left out, with the visible colours spread under transparent pixels."""

    is_live = False
    reconnections = 0

    def __init__(
        self, folder: Path, rate: Fraction = Fraction(30), on_event: Callable[[str], None] = ignore_event
    ) -> None:
        """Lists the images of a folder.

        Args:
            folder: the folder of the images.
            rate: frames per second.
            on_event: called with what is left out: files that are no images, damaged images, and opacity.

        Raises:
            StreamError: the folder contains no image.
            FrameError: the folder cannot be read.
        """
        self.name = str(folder)
        self.info = SourceInfo(rate)
        self.unreadable_packets = 0
        content = scan_folder(folder)
        self._files = content.pictures
        self._on_event = on_event
        self._closed = threading.Event()
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
        """Iterates over the images; one that cannot be read is an event and counts as an unreadable packet.

        Raises:
            FrameError: no image can be read; the error is that of the last one.
        """
        rate = self.info.rate or Fraction(30)
        time_base = Fraction(rate.denominator, rate.numerator)
        has_told_opacity = False
        for number, file in enumerate(self._files):
            if self._closed.is_set():
                return
            try:
                image = with_visible_colours(read_picture(file))
            except FrameError as error:
                self.unreadable_packets += 1
                if self.unreadable_packets == len(self._files):
                    raise
                self._on_event(str(error))
                continue
            pixels = image.pixels
            if image.alpha is not None and not has_told_opacity:
                self._on_event(f"the opacity of images, first of {file.name}, is left out")
                has_told_opacity = True
            rgb = np.repeat(pixels, 3, axis=2) if image.is_gray else pixels
            pixel_format = PixelFormat.RGB if image.bits == 8 else PixelFormat.RGB_16
            yield VideoFrame((rgb,), pixel_format, RGB_COLOUR, number, time_base, time.monotonic_ns(), number)

    def close(self) -> None:
        self._closed.set()

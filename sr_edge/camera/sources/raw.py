"""Raw frames from a named pipe, a file or standard input."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import Colour, VideoFrame
from sr_edge.camera.media.raw_format import RawFormat
from sr_edge.camera.protocols import SourceInfo
from sr_edge.errors import StreamError

_READ_BYTES = 1 << 20


class RawSource:
    """Raw frames from a named pipe, a file or standard input; frame n is shown at n / rate."""

    is_live = False
    reconnections = 0
    is_reconnecting = False
    unreadable_packets = 0

    def __init__(self, path: Path | None, raw: RawFormat) -> None:
        """Opens the file or pipe.

        Args:
            path: None reads standard input. A named pipe may be opened before its writer.
            raw: the format of the frames.

        Raises:
            StreamError: the file or pipe cannot be opened.
        """
        self.name = "standard input" if path is None else str(path)
        self.info = SourceInfo(raw.rate)
        self._raw = raw
        self._owns_file = path is not None
        with stream_errors(self.name):
            self._file = 0 if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._closing = threading.Lock()
        self._wake_reader, self._wake_writer = os.pipe()

    def frames(self) -> Iterator[VideoFrame]:
        try:
            sequence = 0
            while (content := self._read_frame()) is not None:
                planes = self._raw.planes(content)
                time_base = Fraction(self._raw.rate.denominator, self._raw.rate.numerator)
                yield VideoFrame(
                    planes, self._raw.pixel_format, Colour(), sequence, time_base, time.monotonic_ns(), sequence
                )
                sequence += 1
        finally:
            self._close_files()

    def close(self) -> None:
        # The byte ends the reader's `poll`, also one that starts later. The lock keeps the reader from closing the
        # pipe, whose number another thread could then reuse, between the check and the write.
        with self._closing:
            if self._wake_writer >= 0:
                os.write(self._wake_writer, b"x")

    def _close_files(self) -> None:
        with self._closing:
            if self._wake_writer >= 0:
                os.close(self._wake_writer)
                os.close(self._wake_reader)
                self._wake_writer = -1
                if self._owns_file:
                    os.close(self._file)

    def _read_frame(self) -> bytearray | None:
        """The bytes of the next frame; None at the end, or once the source is closed."""
        content = bytearray(self._raw.frame_bytes)
        filled = 0
        while filled < len(content):
            if not self._wait_readable():
                return None
            with stream_errors(self.name):
                chunk = os.read(self._file, min(_READ_BYTES, len(content) - filled))
            if not chunk:
                if filled:
                    raise StreamError(
                        f"{self.name} ended after {filled:,} of the {len(content):,} bytes of a frame",
                        found=filled,
                        wanted=len(content),
                        remedy="check that the sender uses the same raw format",
                    )
                return None
            content[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return content

    def _wait_readable(self) -> bool:
        """Waits for bytes or the end of the file; false once the source is closed."""
        # No timeout is needed: every `close` leaves a byte in the pipe, so `poll` returns.
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        return self._wake_reader not in {descriptor for descriptor, _ in poll.poll()}

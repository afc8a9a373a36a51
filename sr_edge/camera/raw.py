"""Frames as plain bytes, plane after plane without padding: from a pipe or standard input, to standard output."""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from sr_edge.camera.conversion import reformatted, resized
from sr_edge.camera.frame import Colour, PixelFormat, Plane, VideoFrame
from sr_edge.camera.ports import SourceInfo
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.errors import StreamError, UsageError

_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class RawFormat:
    """What bytes without a header are."""

    form: PixelFormat
    width: int
    height: int
    rate: Fraction

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Reads "nv12:320x180@30"; raises UsageError for anything else."""
        match = re.fullmatch(r"(\w+):(\d+)x(\d+)@(\d+(?:/\d+)?)", text.strip())
        known = [form.value for form in PixelFormat]
        if match is None or match[1] not in known or 0 in (int(match[2]), int(match[3]), Fraction(match[4])):
            raise UsageError(
                f"{text!r} is not a raw video format",
                found=text,
                wanted="FORMAT:WIDTHxHEIGHT@RATE",
                remedy="write FORMAT:WIDTHxHEIGHT@RATE, for example nv12:320x180@30, with FORMAT one of "
                + ", ".join(known),
            )
        return cls(PixelFormat(match[1]), int(match[2]), int(match[3]), Fraction(match[4]))

    @property
    def frame_bytes(self) -> int:
        shapes = (part.shape(self.height, self.width) for part in self.form.layout)
        return sum(int(np.prod(shape)) for shape in shapes) * self.form.dtype.itemsize


class RawSource:
    """Raw frames from a named pipe, a file or standard input; frame n is shown at n / rate."""

    is_live = False

    def __init__(self, path: Path | None, raw: RawFormat) -> None:
        """Args:
        path: None reads standard input. A named pipe without a writer is waited for.

        Raises:
            StreamError: it cannot be opened.
        """
        self.name = "standard input" if path is None else str(path)
        self.info = SourceInfo(raw.rate)
        self._raw = raw
        self._owned = path is not None
        with stream_errors(self.name):
            self._file = 0 if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._closing = threading.Lock()
        self._woken, self._waker = os.pipe()

    def frames(self) -> Iterator[VideoFrame]:
        try:
            sequence = 0
            while (content := self._read_frame()) is not None:
                planes = _planes_from_bytes(content, self._raw)
                base = Fraction(self._raw.rate.denominator, self._raw.rate.numerator)
                yield VideoFrame(planes, self._raw.form, Colour(), sequence, base, time.monotonic_ns(), sequence)
                sequence += 1
        finally:
            self._free()

    def close(self) -> None:
        with self._closing:
            if self._waker >= 0:
                os.write(self._waker, b"x")

    def _free(self) -> None:
        with self._closing:
            if self._waker >= 0:
                os.close(self._waker)
                os.close(self._woken)
                self._waker = -1
                if self._owned:
                    os.close(self._file)

    def _read_frame(self) -> bytearray | None:
        """The next frame's bytes; None at the end, or when the source is closed."""
        content = bytearray(self._raw.frame_bytes)
        filled = 0
        while filled < len(content):
            if not self._is_readable():
                return None
            with stream_errors(self.name):
                part = os.read(self._file, min(_AT_ONCE, len(content) - filled))
            if not part:
                if filled:
                    raise StreamError(
                        f"{self.name} ended after {filled:,} of the {len(content):,} bytes of a frame",
                        found=filled,
                        wanted=len(content),
                        remedy="check that the sender uses the same raw format",
                    )
                return None
            content[filled : filled + len(part)] = part
            filled += len(part)
        return content

    def _is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        return self._woken not in {descriptor for descriptor, _ in poll.poll()}


def _planes_from_bytes(content: bytearray, raw: RawFormat) -> tuple[Plane, ...]:
    samples = np.frombuffer(content, raw.form.dtype)
    planes = []
    start = 0
    for part in raw.form.layout:
        shape = part.shape(raw.height, raw.width)
        size = int(np.prod(shape))
        planes.append(samples[start : start + size].reshape(shape))
        start += size
    return tuple(planes)


class RawSink:
    """Raw frames into an open file, all in the size and format of the first."""

    def __init__(self, descriptor: int, name: str = "standard output") -> None:
        """Args:
        descriptor: an open file; stays the caller's.
        """
        self.name = name
        self._descriptor = descriptor
        self._first: VideoFrame | None = None

    def write(self, frame: VideoFrame) -> None:
        first = self._first = self._first or frame
        if (frame.width, frame.height) != (first.width, first.height):
            frame = resized(frame, first.width, first.height)
        for plane in reformatted(frame, first.format).planes:
            self._write_all(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)

    def close(self) -> None: ...

    def _write_all(self, content: memoryview) -> None:
        with stream_errors(self.name):
            while content:
                content = content[os.write(self._descriptor, content) :]

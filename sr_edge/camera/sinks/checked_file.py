"""The file that a stream is recorded to: whether every write succeeded, and whether the result can be played."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av


class CheckedFile:
    """A file that remembers the first write error. It is created by the first write.

    FFmpeg does not report that there was no space for the last fragment of a fragmented MP4.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._error: OSError | None = None
        self._opened: io.FileIO | None = None

    def write(self, content: Any) -> int:
        """Writes all of `content`. After an error nothing more is written.

        Never raises, because PyAV would discard the reason: see `require_written`.
        """
        remaining = memoryview(content)
        try:
            while remaining and self._error is None:
                remaining = remaining[self._file().write(remaining) :]
        except OSError as error:
            self._error = error
        return len(content)

    def require_written(self) -> None:
        """Raises the OSError of the first write that failed."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = 0) -> int:
        """As `io.FileIO.seek`."""
        return self._file().seek(offset, whence)

    def tell(self) -> int:
        """As `io.FileIO.tell`."""
        return self._file().tell()

    def close(self) -> None:
        """Closes the file if it was created."""
        if self._opened is not None:
            self._opened.close()

    def remove_if_unplayable(self) -> bool:
        """Removes the file if a write failed and no frame of it can be decoded. Called after `close`.

        Never removes a device, a pipe or a file that this object did not write.

        Returns:
            Whether the file was removed.
        """
        if self._opened is None or self._error is None or not Path(self.name).is_file() or _has_a_frame(self.name):
            return False
        Path(self.name).unlink()
        return True

    def _file(self) -> io.FileIO:
        if self._opened is None:
            self._opened = io.FileIO(self.name, "w")
        return self._opened


def _has_a_frame(path: str) -> bool:
    try:
        with av.open(path, metadata_errors="replace") as container:
            return any(True for _ in container.decode(video=0))
    except (av.error.FFmpegError, IndexError):  # IndexError: no video stream
        return False

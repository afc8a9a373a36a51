"""The file of a recording: whether all of it was written, and whether what was written is of use."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av


class Recording:
    """A file that knows whether all was written; there from the first write on.

    FFmpeg does not tell that the last fragment of a fragmented MP4 found no room.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._error: OSError | None = None
        self._opened: io.FileIO | None = None

    def write(self, content: Any) -> int:
        """Never raises, PyAV would lose the reason: see `require_written`. After an error nothing more is written."""
        left = memoryview(content)
        try:
            while left and self._error is None:
                left = left[self._file().write(left) :]
        except OSError as error:
            self._error = error
        return len(content)

    def require_written(self) -> None:
        """Raises the OSError of the first write that failed."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file().seek(offset, whence)

    def tell(self) -> int:
        return self._file().tell()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def remove_if_useless(self) -> bool:
        """Removes a regular file that this one wrote, misses something and shows no frame; called when it is closed."""
        if self._opened is None or self._error is None or not Path(self.name).is_file() or _shows_a_frame(self.name):
            return False
        Path(self.name).unlink()
        return True

    def _file(self) -> io.FileIO:
        if self._opened is None:
            self._opened = io.FileIO(self.name, "w")
        return self._opened


def _shows_a_frame(path: str) -> bool:
    try:
        with av.open(path) as container:
            return any(True for _ in container.decode(video=0))
    except (av.error.FFmpegError, IndexError):  # IndexError: no video stream
        return False

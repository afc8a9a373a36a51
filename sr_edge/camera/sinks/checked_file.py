"""The file that a stream is recorded to: who writes it, whether every write succeeded, whether it can be played."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from pathlib import Path
from typing import Any

import av

BEING_WRITTEN = "another stream is being recorded to this file"


class CheckedFile:
    """A file that remembers the first write error. It is created by the first write, and locked until it is closed.

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
        """As `io.FileIO.seek`; 0 after an error."""
        return 0 if self._error else self._file().seek(offset, whence)

    def tell(self) -> int:
        """As `io.FileIO.tell`; 0 after an error."""
        return 0 if self._error else self._file().tell()

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
            self._opened = io.FileIO(self.name, "w", opener=_opened_alone)
        return self._opened


def is_being_written(path: Path) -> bool:
    """Whether another process, or another stream of this one, records to this file at the moment."""
    if not path.is_file():
        return False
    try:
        os.close(_opened_alone(path, os.O_RDONLY))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _opened_alone(path: str | Path, flags: int) -> int:
    """A descriptor with a lock, which is released with it; the file is truncated only once it is locked.

    Raises:
        OSError: EBUSY if another descriptor has the lock.
    """
    descriptor = os.open(path, flags & ~os.O_TRUNC, 0o666)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(errno.EBUSY, BEING_WRITTEN) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _has_a_frame(path: str) -> bool:
    try:
        with av.open(path, metadata_errors="replace") as container:
            return any(True for _ in container.decode(video=0))
    except (av.error.FFmpegError, IndexError):  # IndexError: no video stream
        return False

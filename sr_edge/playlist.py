"""Recognises playlists: files that FFmpeg reads like a video, but that refer to other files, perhaps without end."""

from __future__ import annotations

from pathlib import Path

_HEAD_BYTES = 2048
_MARKS = (b"#EXTM3U", b"<MPD", b"ffconcat version")


def is_playlist(path: Path) -> bool:
    """Whether a regular file begins as an HLS, DASH or concat playlist does."""
    if not path.is_file():  # a named pipe could not be opened a second time
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return any(mark in head for mark in _MARKS)

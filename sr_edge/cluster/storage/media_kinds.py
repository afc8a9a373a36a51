"""Tells pictures and videos from other files: local files by content, objects by suffix."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from sr_edge.cluster.storage.locations import Location
from sr_edge.errors import SrEdgeError
from sr_edge.files.headers import VIDEO_HEADER_BYTES, is_video_container
from sr_edge.image_files.formats import is_picture, read_suffixes

_VIDEO_SUFFIX = re.compile(
    r"\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|m2v|m2ts|mts|wmv|asf|flv|f4v|ogv|3gp|3g2|mxf|vob|y4m|dv|nut)"
)
_TRANSPORT_STREAM = ".ts"
"""Also the suffix of TypeScript: a local file is judged by its content alone."""


class Kind(str, Enum):
    """What a file is upscaled as."""

    PICTURE = "picture"
    VIDEO = "video"

    def __str__(self) -> str:
        return self.value


def kind_of(location: Location) -> Kind | None:
    """What the file is upscaled as; None for all other files.

    A file with the suffix of a picture or video is one even if it is damaged, so that its damage is reported. Objects
    are judged by their suffix, because a look into each of a million would take hours; the machine that upscales one
    reports it if its content is something else.
    """
    if location.suffix in read_suffixes():
        return Kind.PICTURE
    if _VIDEO_SUFFIX.fullmatch(location.suffix):
        return Kind.VIDEO
    if not location.is_local:
        return Kind.VIDEO if location.suffix == _TRANSPORT_STREAM else None
    if is_picture(location.path):
        return Kind.PICTURE
    return Kind.VIDEO if _contains_video(location.path) else None


def _contains_video(path: Path) -> bool:
    """Whether FFmpeg finds a video in a file; only files that begin like a container are opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            header = file.read(VIDEO_HEADER_BYTES)
    except OSError:
        return False
    if not is_video_container(header):
        return False
    from sr_edge.camera.file.probe import open_video

    try:
        with open_video(path):
            return True
    except SrEdgeError:
        return False

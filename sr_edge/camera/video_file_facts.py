"""What a video file is, read before the work: its first frame, its times, and what else it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.conversion import assumed_matrix, frame_from_av
from sr_edge.camera.frame import Colour, PixelFormat, VideoFrame
from sr_edge.camera.orientation import Matrix, display_matrix
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.camera.video_file_hdr import HdrMetadata, hdr_metadata
from sr_edge.errors import FrameError, StreamError

_TEXT = "tty"
"""FFmpeg shows any text as the screen of a terminal."""
_ANY_ORIGIN = 0x0200
"""FFmpeg's mark of containers whose clock starts anywhere, such as MPEG-TS."""
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True)
class OtherStream:
    """A stream beside the video; `codec` is empty where FFmpeg does not know it."""

    index: int
    kind: str
    codec: str

    def __str__(self) -> str:
        return f"stream {self.index} ({' '.join(filter(None, (self.kind, self.codec)))})"


@dataclass(frozen=True, eq=False)
class VideoProbe:
    """What a video file holds.

    Attributes:
        first_frame: as decoded, before players turn it; a matrix that it leaves open is the one that players take at
            this size. All frames are taken to have its size and colour.
        time_base: seconds of one unit of the frames' pts.
        rate: frames a second, on the average.
        frame_count: as announced, or estimated from the duration; 0 where neither is told.
        aspect: width of a pixel over its height, where it is told.
        matrix: how players turn it, where they do.
        hdr: of the first frame; false where it has none.
        origin_s: the container's own zero, taken off all times; not 0 only where containers start anywhere.
        others: all other streams.
        has_opacity, is_interlaced: of the first frame.
    """

    path: Path
    first_frame: VideoFrame
    time_base: Fraction
    rate: Fraction
    frame_count: int
    aspect: Fraction | None
    matrix: Matrix | None
    hdr: HdrMetadata
    origin_s: Fraction
    others: tuple[OtherStream, ...]
    has_opacity: bool
    is_interlaced: bool

    @property
    def width(self) -> int:
        return self.first_frame.width

    @property
    def height(self) -> int:
        return self.first_frame.height

    @property
    def format(self) -> PixelFormat:
        return self.first_frame.format

    @property
    def colour(self) -> Colour:
        return self.first_frame.colour

    @property
    def origin(self) -> int:
        """`origin_s` in units of `time_base`."""
        return round(self.origin_s / self.time_base)


def probe_video(path: Path) -> VideoProbe:
    """Opens a video file and decodes its first frame.

    Raises:
        FrameError: there is no such file, it is empty, or its pixels are of a format that is not read here.
        StreamError: it is no video, is damaged, or has no video stream that can be decoded.
    """
    with opened_video(path) as (container, video):
        picture = _first_picture(path, container, video)
        try:
            frame = frame_from_av(picture, captured_ns=0)
            matrix = frame.colour.matrix if frame.format.is_rgb else assumed_matrix(frame)
        except FrameError as error:
            raise FrameError(
                f"{path}: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
            ) from error
        rate = video.average_rate or video.guessed_rate or _USUAL_RATE
        starts_anywhere = int(container.format.flags) & _ANY_ORIGIN
        return VideoProbe(
            path=path,
            first_frame=replace(frame, colour=replace(frame.colour, matrix=matrix)),
            time_base=video.time_base,
            rate=rate,
            frame_count=video.frames or round((container.duration or 0) * rate / 1_000_000),
            aspect=video.sample_aspect_ratio or None,
            matrix=display_matrix(picture),
            hdr=hdr_metadata(picture),
            origin_s=Fraction(container.start_time or 0, 1_000_000) if starts_anywhere else Fraction(0),
            others=tuple(_other(stream) for stream in container.streams if stream.index != video.index),
            has_opacity=any(part.is_alpha for part in picture.format.components),
            is_interlaced=picture.interlaced_frame,
        )


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """FFmpeg's container of a file and the video stream that is meant: the first that is no cover picture.

    Raises as `probe_video`.
    """
    _require_content(path)
    with stream_errors(str(path)):
        container: Any = av.open(f"file:{path}", "r")  # the scheme lets a name hold a colon
    with container:
        yield container, _video_stream(path, container)


def _require_content(path: Path) -> None:
    if path.is_dir():
        raise FrameError(f"{path} is a folder", found=path, wanted="a video file", remedy="give one video file")
    if not path.is_file():
        raise FrameError(
            f"the file {path} does not exist", found=path, wanted="an existing file", remedy="check the name"
        )
    if path.stat().st_size == 0:
        raise FrameError(
            f"{path} is empty (0 bytes)", found=path, wanted="at least 1 byte", remedy="copy or export it again"
        )


def _video_stream(path: Path, container: Any) -> Any:
    if container.format.name == _TEXT:
        raise StreamError(
            f"{path} is a text file, not a video", found="text", wanted="video", remedy="choose another file"
        )
    moving = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not moving:
        kinds = tuple(dict.fromkeys(_other(stream).kind for stream in container.streams))
        raise StreamError(
            f"{path} has no video stream, only {', '.join(kinds)}" if kinds else f"{path} has no streams",
            found=kinds,
            wanted="video",
            remedy="give a file with video",
        )
    if moving[0].codec_context is None:
        raise StreamError(
            f"this build of FFmpeg cannot decode the video of {path}",
            found=path,
            wanted=("H.264", "H.265"),
            remedy="convert it to H.264 or H.265",
        )
    return moving[0]


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _other(stream: Any) -> OtherStream:
    kind = "cover picture" if stream.type == "video" and _is_cover(stream) else stream.type
    return OtherStream(stream.index, kind, stream.codec_context.name if stream.codec_context else "")


def _first_picture(path: Path, container: Any, video: Any) -> Any:
    with stream_errors(str(path)):
        for packet in container.demux(video):
            for picture in decoded(packet) or ():
                return picture
    raise StreamError(f"no frame of {path} can be decoded", found=path, remedy="copy or export it again")


def decoded(packet: Any) -> list[Any] | None:
    """The frames that come out of the decoder after this packet; None where it cannot be decoded."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return None

"""Probes a video file before the work: its first frame, its timing and its other streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.file.hdr import HdrMetadata, hdr_metadata
from sr_edge.camera.media.codecs import named_decoder
from sr_edge.camera.media.conversion import assumed_matrix, frame_from_av
from sr_edge.camera.media.declared import declared_by, stereo_tag
from sr_edge.camera.media.decoding import StrictDecoder, packets_of
from sr_edge.camera.media.deinterlacing import Interlacing, interlacing_of
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import Colour, PixelFormat, VideoFrame
from sr_edge.camera.media.nearest_format import NearestFormat, nearest_format
from sr_edge.camera.media.orientation import Matrix, display_matrix
from sr_edge.camera.media.passthrough import OtherStream, is_cover, other_stream
from sr_edge.errors import FrameError, StreamError
from sr_edge.files.headers import is_playlist

_TEXT_FORMAT = "tty"
"""FFmpeg's demuxer that renders any text file as the screen of a terminal."""
_TIMESTAMP_DISCONTINUITY = 0x0200
"""AVFMT_TS_DISCONT, the flag of containers whose timestamps may start at any value, such as MPEG-TS."""
_DEFAULT_FRAME_RATE = Fraction(30)


@dataclass(frozen=True, eq=False)
class VideoProbe:
    """The properties of a video file. All frames are assumed to have the size and colour of the first one.

    Attributes:
        path: The file.
        first_frame: As decoded, before the display matrix is applied. A colour matrix that the file does not specify
            is replaced by the one that players assume for this size.
        time_base: Seconds per unit of the frames' pts.
        frame_rate: Average frames per second.
        frame_count: As the header declares it, or estimated from the duration; 0 if both are unknown.
        sample_aspect_ratio: Width of a pixel divided by its height; None if the file does not specify it.
        display_matrix: How players rotate or mirror the frames; None if they do not.
        hdr: Static HDR metadata of the first frame.
        start_offset_s: Start time of the container, which is subtracted from all timestamps; not 0 only for containers
            whose timestamps may start at any value.
        other_streams: All streams other than the video.
        decoded_format: How the frames are converted after they are decoded.
        declared: What the file declares beside the pixels, see `sr_edge.camera.media.declared`.
        stereo: Matroska's name of the arrangement of two views in each frame, if upscaling keeps it.
        interlacing: How the file declares that its frames are interlaced.
        decoder: FFmpeg's name of the decoder that the user chose; None lets FFmpeg choose one.
    """

    path: Path
    first_frame: VideoFrame
    time_base: Fraction
    frame_rate: Fraction
    frame_count: int
    sample_aspect_ratio: Fraction | None
    display_matrix: Matrix | None
    hdr: HdrMetadata
    start_offset_s: Fraction
    other_streams: tuple[OtherStream, ...]
    decoded_format: NearestFormat
    declared: frozenset[str]
    stereo: str | None
    interlacing: Interlacing
    decoder: str | None = None

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
    def start_offset(self) -> int:
        """`start_offset_s` in units of `time_base`."""
        return round(self.start_offset_s / self.time_base)


def probe_video(path: Path, decoder: str | None = None) -> VideoProbe:
    """Opens a video file and decodes its first frame.

    Args:
        path: The file.
        decoder: FFmpeg's name of the decoder; None lets FFmpeg choose one.

    Raises:
        FrameError: The file does not exist or is empty, or its pixel format is not supported.
        StreamError: The file is not a video, is damaged, or has no video stream that FFmpeg or the decoder can decode.
    """
    with open_video(path) as (container, video):
        chosen = None if decoder is None else named_decoder(decoder, video, str(path))
        av_frame = _first_frame(path, container, StrictDecoder(video, is_parallel=False, decoder=chosen), video)
        try:
            frame = frame_from_av(av_frame, captured_ns=0)
            matrix = frame.colour.matrix if frame.format.is_rgb else assumed_matrix(frame)
        except FrameError as error:
            raise FrameError(
                f"{path}: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
            ) from error
        frame_rate = video.average_rate or video.guessed_rate or _DEFAULT_FRAME_RATE
        has_start_offset = int(container.format.flags) & _TIMESTAMP_DISCONTINUITY
        return VideoProbe(
            path=path,
            first_frame=replace(frame, colour=replace(frame.colour, matrix=matrix)),
            time_base=video.time_base,
            frame_rate=frame_rate,
            frame_count=video.frames or round((container.duration or 0) * frame_rate / 1_000_000),
            sample_aspect_ratio=video.sample_aspect_ratio or None,
            display_matrix=display_matrix(av_frame),
            hdr=hdr_metadata(av_frame),
            start_offset_s=Fraction(container.start_time or 0, 1_000_000) if has_start_offset else Fraction(0),
            other_streams=tuple(other_stream(stream) for stream in container.streams if stream.index != video.index),
            decoded_format=nearest_format(av_frame.format.name),
            declared=frozenset(declared_by(container, video, av_frame)),
            stereo=stereo_tag(video, av_frame),
            interlacing=interlacing_of(video, av_frame),
            decoder=decoder,
        )


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Opens a video file with FFmpeg.

    Yields:
        The container, and its first video stream that is not a cover picture.

    Raises:
        FrameError: The file does not exist or is empty.
        StreamError: The file is not a video, or has no video stream that FFmpeg can decode.
    """
    _require_content(path)
    if is_playlist(path):
        raise StreamError(
            f"{path} is a playlist, not a video",
            found=path,
            wanted="a video file",
            remedy="give the video that it refers to, or use `sr-edge stream`",
        )
    with stream_errors(str(path)):
        # Without the scheme, a colon in the name would end a protocol. Metadata may be in any encoding.
        container: Any = av.open(f"file:{path}", "r", metadata_errors="replace")
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
    if container.format.name == _TEXT_FORMAT:
        raise StreamError(
            f"{path} is a text file, not a video", found="text", wanted="video", remedy="choose another file"
        )
    videos = [stream for stream in container.streams.video if not is_cover(stream)]
    if not videos:
        kinds = tuple(dict.fromkeys(other_stream(stream).kind for stream in container.streams))
        raise StreamError(
            f"{path} has no video stream, only {', '.join(kinds)}" if kinds else f"{path} has no streams",
            found=kinds,
            wanted="video",
            remedy="give a file with video",
        )
    if videos[0].codec_context is None:
        raise StreamError(
            f"this build of FFmpeg cannot decode the video of {path}",
            found=path,
            wanted=("H.264", "H.265"),
            remedy="convert it to H.264 or H.265",
        )
    return videos[0]


def _first_frame(path: Path, container: Any, decoder: StrictDecoder, video: Any) -> Any:
    with stream_errors(str(path)):
        for packet in packets_of(container, video):
            for av_frame in decoder.decode(packet):
                return av_frame
    raise StreamError(f"no frame of {path} can be decoded", found=path, remedy="copy or export it again")

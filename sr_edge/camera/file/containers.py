"""The containers and encoders of video files, and what is checked of them before the source is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sr_edge.camera.file.settings import VideoCodec, VideoSettings
from sr_edge.camera.media.codecs import CodecKind, supported_codecs, video_codec
from sr_edge.camera.media.encoder_settings import MAX_CRF, require_encoder
from sr_edge.errors import StreamError, UsageError


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg.

    Attributes:
        name: FFmpeg's name of the encoder.
        default_crf: A constant rate factor at which losses are hard to see.
        max_dimension_px: The largest width and height.
        allows_odd_dimensions: Whether width and height may be odd where the chroma is subsampled.
        options: Options that are passed to the encoder.
    """

    name: str
    default_crf: int
    max_dimension_px: int
    allows_odd_dimensions: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


ENCODERS = {
    VideoCodec.H264: Encoder("libx264", 18, 16_384),
    VideoCodec.H265: Encoder("libx265", 20, 16_384),
    VideoCodec.VP9: Encoder(
        "libvpx-vp9", 24, 65_535, True, {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"}
    ),
    VideoCodec.AV1: Encoder("libsvtav1", 25, 16_384, options={"preset": "7"}),
}
CONTAINERS: Mapping[str, tuple[str, tuple[VideoCodec, ...]]] = {
    ".mp4": ("mp4", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".m4v": ("mp4", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".mov": ("mov", (VideoCodec.H264, VideoCodec.H265)),
    ".mkv": ("matroska", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".webm": ("webm", (VideoCodec.VP9, VideoCodec.AV1)),
}
"""FFmpeg's container format for a file suffix, and the codecs that it can contain, in the order of preference."""
SUFFIXES = tuple(CONTAINERS)
SEGMENT_CONTAINER = "mp4"
"""FFmpeg's name of the container format of the segments."""
_COMMON_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4")


def container_of(target: Path) -> str:
    """FFmpeg's name of the container format that a file suffix selects.

    Raises:
        UsageError: The suffix is unknown.
    """
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        raise UsageError(
            f"{target} does not have the suffix of a video file",
            found=target.suffix,
            wanted=SUFFIXES,
            remedy=f"end the name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
        )
    return container[0]


def require_encoder_for(target: Path, settings: VideoSettings) -> None:
    """Checks container, encoder and its options as far as they do not depend on the frames.

    Raises:
        UsageError: There is no such encoder, or the container, codec and quality cannot be combined.
        StreamError: The encoder does not accept its options.
    """
    container_of(target)
    requested, options = settings.codec, settings.encoder_options
    if settings.crf is not None and "crf" in options:
        raise UsageError(
            f"the constant rate factor is given twice, as --crf {settings.crf} and as --encode crf={options['crf']}",
            found=(settings.crf, options["crf"]),
            wanted="one of them",
            remedy="leave one of them out",
        )
    if requested is None:
        return  # the bit depth of the source decides
    if isinstance(requested, VideoCodec):
        _require_container(target, requested)
        if settings.crf is not None:
            require_crf(settings.crf, requested, ENCODERS[requested])
        require_encoder(ENCODERS[requested].name, options, str(target), settings.pixel_format)
        return
    _require_storable(target, _named_encoder(target, requested))
    options = {**({} if settings.crf is None else {"crf": str(settings.crf)}), **options}
    require_encoder(requested, options, str(target), settings.pixel_format)


def require_crf(crf: int, codec: VideoCodec, encoder: Encoder) -> None:
    most = MAX_CRF[encoder.name]
    if not 0 <= crf <= most:
        raise UsageError(
            f"--crf {crf} is outside the quality range of {codec}",
            found=crf,
            wanted=range(most + 1),
            remedy=f"give a number from 0 (best) to {most}",
        )


def _named_encoder(target: Path, name: str) -> Any:
    """PyAV's object for an encoder that the user named; raises UsageError if there is none."""
    try:
        return video_codec(name, CodecKind.ENCODER, str(target))
    except StreamError as error:
        raise UsageError(
            f"{name!r} is neither one of the codecs {', '.join(VideoCodec)} nor a video encoder of this FFmpeg",
            found=name,
            wanted=names_of(VideoCodec),
            remedy=error.remedy,
        ) from None


def _require_storable(target: Path, encoder: Any) -> None:
    """Raises UsageError if the file or its segments cannot store what an encoder, an object of PyAV, encodes."""
    codec = encoder.canonical_name
    for container, files in ((container_of(target), f"{target.suffix} files"), (SEGMENT_CONTAINER, "MP4 segments")):
        storable = supported_codecs(container)
        if codec not in storable:
            raise UsageError(
                f"the {codec} video of the encoder {encoder.name} cannot be written to {files}",
                found=codec,
                wanted=tuple(name for name in _COMMON_CODECS if name in storable),
                remedy=f"choose an encoder of {', '.join(name for name in _COMMON_CODECS if name in storable)}",
            )


def _require_container(target: Path, requested: VideoCodec) -> None:
    _, supported = CONTAINERS[target.suffix.lower()]
    if requested not in supported:
        raise UsageError(
            f"{requested} video cannot be written to {target.suffix} files",
            found=requested.value,
            wanted=names_of(supported),
            remedy=f"choose {codec_options(supported)}, or write a .mkv file",
        )


def names_of(codecs: Iterable[VideoCodec]) -> tuple[str, ...]:
    return tuple(codec.value for codec in codecs)


def codec_options(codecs: Iterable[VideoCodec]) -> str:
    return f"--codec {' or '.join(names_of(codecs))}"

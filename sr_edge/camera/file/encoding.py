"""The encoder of a video file and its options, chosen by the file suffix and the bit depth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.file.probe import VideoProbe
from sr_edge.camera.file.settings import VideoCodec, VideoSettings
from sr_edge.camera.media.codecs import CodecKind, supported_codecs, video_codec
from sr_edge.camera.media.conversion import YUV_COLOUR
from sr_edge.camera.media.encoder_settings import encodable_format, encoder_time_base, rate_control, require_opens
from sr_edge.camera.media.frame import Chroma, Colour, PixelFormat
from sr_edge.camera.media.orientation import Matrix
from sr_edge.errors import StreamError, UsageError

MAX_THREADS = 16
_PYAV_WITH_DISPLAY_MATRIX = "av>=17.1"


@dataclass(frozen=True)
class _Encoder:
    """An encoder of FFmpeg.

    Attributes:
        name: FFmpeg's name of the encoder.
        default_crf: A constant rate factor at which losses are hard to see.
        max_crf: The largest constant rate factor that the encoder accepts.
        max_dimension_px: The largest width and height.
        allows_odd_dimensions: Whether width and height may be odd where the chroma is subsampled.
        options: Options that are passed to the encoder.
    """

    name: str
    default_crf: int
    max_crf: int
    max_dimension_px: int
    allows_odd_dimensions: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


_ENCODERS = {
    VideoCodec.H264: _Encoder("libx264", 18, 51, 16_384),
    VideoCodec.H265: _Encoder("libx265", 20, 51, 16_384),
    VideoCodec.VP9: _Encoder(
        "libvpx-vp9", 24, 63, 65_535, True, {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"}
    ),
    VideoCodec.AV1: _Encoder("libsvtav1", 25, 63, 16_384, options={"preset": "7"}),
}

_CONTAINERS: Mapping[str, tuple[str, tuple[VideoCodec, ...]]] = {
    ".mp4": ("mp4", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".m4v": ("mp4", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".mov": ("mov", (VideoCodec.H264, VideoCodec.H265)),
    ".mkv": ("matroska", (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP9, VideoCodec.AV1)),
    ".webm": ("webm", (VideoCodec.VP9, VideoCodec.AV1)),
}
"""FFmpeg's container format for a file suffix, and the codecs that it can contain, in the order of preference."""

SUFFIXES = tuple(_CONTAINERS)
SEGMENT_CONTAINER = "mp4"
"""FFmpeg's name of the container format of the segments."""
_COMMON_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4")

_X264_FRAME_PACKING = {"left_right": 3, "top_bottom": 4}
"""x264's numbers of the arrangements of two views, by Matroska's names."""

_PLANAR = {PixelFormat.NV12: PixelFormat.I420, PixelFormat.P010: PixelFormat.I420_10}
"""Replacements for pixel formats that not every encoder accepts; the samples are the same."""
_RGB_AS = {
    PixelFormat.RGB: (PixelFormat.I420, PixelFormat.I444),
    PixelFormat.RGB_16: (PixelFormat.I420_10, PixelFormat.I444_10),
}
"""RGB becomes 4:2:0, which every player can decode; 4:4:4 where the size is odd."""


@dataclass(frozen=True)
class VideoFileEncoding:
    """Everything that determines the encoded bits of the frames; the same for all segments of a file and all machines.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container format of the finished file.
        options: Options of the encoder.
        threads: Threads of the encoder; another number of threads produces other bits.
        width: Width of the encoded frames.
        height: Height of the encoded frames.
        format: Pixel format of the encoded frames.
        colour: Colour tags.
        time_base: Seconds per unit of the pts.
        frame_rate: Nominal frames per second.
        sample_aspect_ratio: Width of a pixel divided by its height; None writes none.
        display_matrix: How players rotate or mirror the frames; None writes none.
    """

    encoder: str
    container: str
    options: Mapping[str, str]
    threads: int
    width: int
    height: int
    format: PixelFormat
    colour: Colour
    time_base: Fraction
    frame_rate: Fraction
    sample_aspect_ratio: Fraction | None
    display_matrix: Matrix | None

    @property
    def codec_tag(self) -> str | None:
        """The tag that Apple's players require for H.265; None keeps FFmpeg's default."""
        is_hevc = av.Codec(self.encoder, "w").canonical_name == "hevc"
        return "hvc1" if is_hevc and self.container in ("mp4", "mov") else None


def container_of(target: Path) -> str:
    """FFmpeg's name of the container format that a file suffix selects.

    Raises:
        UsageError: The suffix is unknown.
    """
    container = _CONTAINERS.get(target.suffix.lower())
    if container is None:
        raise UsageError(
            f"{target} does not have the suffix of a video file",
            found=target.suffix,
            wanted=SUFFIXES,
            remedy=f"end the name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
        )
    return container[0]


def choose_encoding(probe: VideoProbe, target: Path, scale: int, settings: VideoSettings) -> VideoFileEncoding:
    """Chooses the encoding of a video upscaled by `scale`; bit depth, chroma, colour and time base are kept.

    Args:
        probe: The source video.
        target: The file to write; its suffix selects the container.
        scale: Magnification.
        settings: Codec, quality and pixel format. By default the codec is the first one of the container that can
            encode the pixel format: usually H.264, for 10 bits H.265.

    Raises:
        UsageError: The container, codec, quality, pixel format and size cannot be combined.
        StreamError: An encoder that was chosen by name does not open, or lacks an option.
    """
    container = container_of(target)
    if settings.crf is not None and "crf" in settings.encoder_options:
        raise UsageError(
            f"the constant rate factor is given twice, as --crf {settings.crf} and as --encode "
            f"crf={settings.encoder_options['crf']}",
            found=(settings.crf, settings.encoder_options["crf"]),
            wanted="one of them",
            remedy="leave one of them out",
        )
    if probe.display_matrix is not None and not can_write_rotation():
        raise UsageError(
            f"the metadata of {probe.path} rotates or mirrors its frames, which PyAV {av.__version__} cannot write",
            found=av.__version__,
            wanted=_PYAV_WITH_DISPLAY_MATRIX,
            remedy=f"install a newer version: pip install '{_PYAV_WITH_DISPLAY_MATRIX}'",
        )
    width, height = scale * probe.width, scale * probe.height
    requested = settings.codec
    if requested is not None and not isinstance(requested, VideoCodec):
        return _named_encoding(probe, target, (width, height), settings, requested)
    pixel_format = settings.pixel_format or _default_format(probe.format, width, height)
    codec = _codec_for(target, pixel_format, requested, is_format_chosen=settings.pixel_format is not None)
    encoder = _ENCODERS[codec]
    crf = encoder.default_crf if settings.crf is None else settings.crf
    if not 0 <= crf <= encoder.max_crf:
        raise UsageError(
            f"--crf {crf} is outside the quality range of {codec}",
            found=crf,
            wanted=range(encoder.max_crf + 1),
            remedy=f"give a number from 0 (best) to {encoder.max_crf}",
        )
    _require_size(target, codec, encoder, pixel_format, width, height)
    options = {**encoder.options, **_library_options(codec, probe), "crf": str(crf), **settings.encoder_options}
    if settings.encoder_options:
        require_opens(encoder.name, pixel_format, (width, height), options, str(target))
    return _encoding(probe, container, (width, height), encoder.name, options, pixel_format)


def _encoding(
    probe: VideoProbe,
    container: str,
    size: tuple[int, int],
    encoder: str,
    options: Mapping[str, str],
    pixel_format: PixelFormat,
) -> VideoFileEncoding:
    """The encoding by this encoder, with the colour, times and orientation of the source."""
    width, height = size
    return VideoFileEncoding(
        encoder=encoder,
        container=container,
        options=options,
        threads=min(os.cpu_count() or 1, MAX_THREADS),
        width=width,
        height=height,
        format=pixel_format,
        colour=YUV_COLOUR if probe.format.is_rgb else probe.colour,
        time_base=probe.time_base,
        frame_rate=probe.frame_rate.limit_denominator(1001),
        sample_aspect_ratio=probe.sample_aspect_ratio,
        display_matrix=_scaled_matrix(probe.display_matrix, width // probe.width),
    )


def _named_encoding(
    probe: VideoProbe, target: Path, size: tuple[int, int], settings: VideoSettings, name: str
) -> VideoFileEncoding:
    """The encoding by an encoder that the user chose by FFmpeg's name. It is tried first, and nothing replaces it."""
    try:
        encoder = video_codec(name, CodecKind.ENCODER, str(target))
    except StreamError as error:
        raise UsageError(
            f"{name!r} is neither one of the codecs {', '.join(VideoCodec)} nor a video encoder of this FFmpeg",
            found=name,
            wanted=_values(VideoCodec),
            remedy=error.remedy,
        ) from None
    _require_storable(target, encoder)
    if encoder_time_base(name, probe.time_base) != probe.time_base:
        raise UsageError(
            f"the encoder {name} cannot keep the timestamps of {probe.path}, which are in units of {probe.time_base} s",
            found=probe.time_base,
            wanted=encoder_time_base(name, probe.time_base),
            remedy="choose another encoder",
        )
    (width, height), source = size, _default_format(probe.format, *size)
    pixel_format = encodable_format(source, width, height, name, str(target), settings.pixel_format)
    options = {**({} if settings.crf is None else {"crf": str(settings.crf)}), **settings.encoder_options}
    options |= rate_control(name, options, width, height, probe.frame_rate)
    colour = YUV_COLOUR if probe.format.is_rgb else probe.colour
    require_opens(name, pixel_format, size, options, str(target), colour.range)
    return _encoding(probe, container_of(target), size, name, options, pixel_format)


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


def _default_format(source: PixelFormat, width: int, height: int) -> PixelFormat:
    """The format in which frames of a format are encoded unless the user chooses another one."""
    if source not in _RGB_AS:
        return _PLANAR.get(source, source)
    subsampled, full = _RGB_AS[source]
    return full if width % 2 or height % 2 else subsampled


def _library_options(codec: VideoCodec, probe: VideoProbe) -> Mapping[str, str]:
    """Options that FFmpeg passes to x264, x265 and SVT-AV1 unparsed."""
    if codec is VideoCodec.H265:
        return {"x265-params": ":".join(["log-level=none", *probe.hdr.x265_params()])}
    if codec is VideoCodec.H264:
        packing = _X264_FRAME_PACKING.get(probe.stereo or "")
        params = [*([f"frame-packing={packing}"] if packing else []), *probe.hdr.x264_params()]
        return {"x264-params": ":".join(params)} if params else {}
    params = probe.hdr.svtav1_params() if codec is VideoCodec.AV1 else []
    return {"svtav1-params": ":".join(params)} if params else {}


def can_write_rotation() -> bool:
    """Whether this version of PyAV can write display matrices; 17.1 and later can."""
    return hasattr(av.VideoStream, "set_display_matrix")


def _codec_for(
    target: Path, pixel_format: PixelFormat, requested: VideoCodec | None, is_format_chosen: bool
) -> VideoCodec:
    _, supported = _CONTAINERS[target.suffix.lower()]
    if requested is not None and requested not in supported:
        raise UsageError(
            f"{requested} video cannot be written to {target.suffix} files",
            found=requested.value,
            wanted=_values(supported),
            remedy=f"choose {_codec_options(supported)}, or write a .mkv file",
        )
    capable = [
        codec for codec in _by_preference(supported, pixel_format) if pixel_format.value in _pixel_formats_of(codec)
    ]
    if is_format_chosen:
        _require_encodable(target, pixel_format, (requested,) if requested else supported)
    if not capable:
        raise UsageError(
            f"{pixel_format} pixels cannot be written to {target.suffix} files",
            found=pixel_format.value,
            wanted=(".mkv", ".mp4"),
            remedy="write a .mkv or .mp4 file",
        )
    if requested is not None and requested not in capable:
        raise UsageError(
            f"{requested} cannot encode {pixel_format} pixels with this build of FFmpeg",
            found=requested.value,
            wanted=_values(capable),
            remedy=f"choose {_codec_options(capable)}",
        )
    return requested or capable[0]


def _require_encodable(target: Path, pixel_format: PixelFormat, codecs: tuple[VideoCodec, ...]) -> None:
    """Raises UsageError if none of the codecs can encode the format that the user chose."""
    names = set().union(*(_pixel_formats_of(codec) for codec in codecs))
    encodable = [choice.value for choice in PixelFormat if choice.value in names]
    if pixel_format.value not in encodable:
        raise UsageError(
            f"{' and '.join(_values(codecs))} in {target.suffix} files cannot encode {pixel_format} pixels",
            found=pixel_format.value,
            wanted=encodable,
            remedy=f"choose --pixel-format {', '.join(encodable[:-1])} or {encodable[-1]}",
        )


def _values(codecs: Iterable[VideoCodec]) -> tuple[str, ...]:
    return tuple(codec.value for codec in codecs)


def _codec_options(codecs: Iterable[VideoCodec]) -> str:
    return f"--codec {' or '.join(_values(codecs))}"


def _by_preference(supported: tuple[VideoCodec, ...], pixel_format: PixelFormat) -> list[VideoCodec]:
    """Puts H.264 last for more than 8 bits, which few players can decode."""
    return sorted(supported, key=lambda codec: pixel_format.bits > 8 and codec is VideoCodec.H264)


def _pixel_formats_of(codec: VideoCodec) -> set[str]:
    try:
        return {video_format.name for video_format in av.Codec(_ENCODERS[codec].name, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        return set()


def _require_size(
    target: Path, codec: VideoCodec, encoder: _Encoder, pixel_format: PixelFormat, width: int, height: int
) -> None:
    size = f"{width}x{height}"
    if max(width, height) > encoder.max_dimension_px:
        raise UsageError(
            f"{target} would be {size}, but {codec} allows at most {encoder.max_dimension_px} pixels in each dimension",
            found=(width, height),
            wanted=encoder.max_dimension_px,
            remedy="use a model with a smaller scale",
        )
    columns, rows = pixel_format.chroma.value if pixel_format.chroma else Chroma.C444.value
    if not encoder.allows_odd_dimensions and (width % columns or height % rows):
        raise UsageError(
            f"{target} would be {size}, but {codec} with {pixel_format} pixels requires even dimensions",
            found=(width, height),
            wanted="even width and height",
            remedy="choose --codec vp9 in a .mkv, .mp4 or .webm file, or a model of scale 2 or 4",
        )


def _scaled_matrix(matrix: Matrix | None, scale: int) -> Matrix | None:
    """The display matrix for the larger frame. Only its translation (elements 6 and 7) is in pixels."""
    if matrix is None:
        return None
    limit = 2**31 - 1  # of FFmpeg's integers; only a damaged file has a translation so large
    scaled = (scale * value if index in (6, 7) else value for index, value in enumerate(matrix))
    return tuple(max(-limit, min(limit, value)) for value in scaled)

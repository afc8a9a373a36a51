"""Which encoder writes a video file, by its suffix and bit depth, and with what settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from sr_edge.camera.conversion import YUV_COLOUR
from sr_edge.camera.frame import Chroma, Colour, PixelFormat
from sr_edge.camera.orientation import Matrix
from sr_edge.camera.video_file_facts import VideoProbe
from sr_edge.camera.video_file_settings import VideoCodec
from sr_edge.errors import UsageError

MOST_THREADS = 16
_CPUINFO = Path("/proc/cpuinfo")
_PYAV_WITH_MATRICES = "av>=17.1"


@dataclass(frozen=True)
class _Encoder:
    """FFmpeg's encoder of a codec; `crf` is a value at which losses are hard to see, `worst_crf` the largest."""

    name: str
    crf: int
    worst_crf: int
    longest_side_px: int
    takes_odd_sides: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


_ENCODERS = {
    VideoCodec.H264: _Encoder("libx264", 18, 51, 16_384),
    VideoCodec.H265: _Encoder("libx265", 20, 51, 16_384),
    VideoCodec.VP9: _Encoder(
        "libvpx-vp9", 24, 63, 65_535, True, {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"}
    ),
    VideoCodec.AV1: _Encoder("libsvtav1", 25, 63, 16_384, options={"preset": "7"}),
}

_USUAL = (VideoCodec.H264, VideoCodec.H265)
_CONTAINERS: Mapping[str, tuple[str, tuple[VideoCodec, ...]]] = {
    ".mp4": ("mp4", (*_USUAL, VideoCodec.VP9, VideoCodec.AV1)),
    ".m4v": ("mp4", (*_USUAL, VideoCodec.VP9, VideoCodec.AV1)),
    ".mov": ("mov", _USUAL),
    ".mkv": ("matroska", (*_USUAL, VideoCodec.VP9, VideoCodec.AV1)),
    ".webm": ("webm", (VideoCodec.VP9, VideoCodec.AV1)),
}
"""FFmpeg's container of a suffix, and the codecs it may hold, in the order of preference."""

SUFFIXES = tuple(_CONTAINERS)

_PLANAR = {
    PixelFormat.NV12: PixelFormat.I420,
    PixelFormat.P010: PixelFormat.I420_10,
    PixelFormat.RGB: PixelFormat.I444,
    PixelFormat.RGB_16: PixelFormat.I444_10,
}
"""What encoders take in place of formats that they do not; RGB keeps its colours at full resolution."""


@dataclass(frozen=True)
class VideoFileEncoding:
    """All that decides the bits of the encoded frames; the same for every part of a file.

    Attributes:
        encoder: FFmpeg's name.
        container: FFmpeg's name of what the file will be.
        options: the encoder's own settings.
        threads: of the encoder: another number gives other bits.
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
    rate: Fraction
    aspect: Fraction | None
    matrix: Matrix | None

    @property
    def tag(self) -> str | None:
        """The name under which Apple's players know H.265."""
        return "hvc1" if self.encoder == "libx265" and self.container in ("mp4", "mov") else None


def container_of(target: Path) -> str:
    """FFmpeg's name of the container that a file name asks for; raises UsageError for an unknown suffix."""
    found = _CONTAINERS.get(target.suffix.lower())
    if found is None:
        raise UsageError(
            f"{target} does not have the suffix of a video file",
            found=target.suffix,
            wanted=SUFFIXES,
            remedy=f"end the name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
        )
    return found[0]


def choose_encoding(
    probe: VideoProbe, target: Path, scale: int, codec: VideoCodec | None = None, crf: int | None = None
) -> VideoFileEncoding:
    """The encoding of a video enlarged `scale` times: its bit depth, chroma, colour, times and aspect kept.

    Args:
        codec: None takes the first of the container that holds the pixels: for most H.264, for 10 bits H.265.
        crf: quality, lower is better; None takes the codec's own.

    Raises:
        UsageError: the container, codec, quality, pixel format and size do not go together.
    """
    container = container_of(target)
    if probe.matrix is not None and not can_write_rotation():
        raise UsageError(
            f"the metadata of {probe.path} rotates or mirrors its frames, which PyAV {av.__version__} cannot write",
            found=av.__version__,
            wanted=_PYAV_WITH_MATRICES,
            remedy=f"install a newer version: pip install '{_PYAV_WITH_MATRICES}'",
        )
    form = _PLANAR.get(probe.format, probe.format)
    codec = _codec_for(target, form, codec)
    encoder = _ENCODERS[codec]
    crf = encoder.crf if crf is None else crf
    if not 0 <= crf <= encoder.worst_crf:
        raise UsageError(
            f"--crf {crf} is outside the quality range of {codec}",
            found=crf,
            wanted=range(encoder.worst_crf + 1),
            remedy=f"give a number from 0 (best) to {encoder.worst_crf}",
        )
    width, height = scale * probe.width, scale * probe.height
    _require_size(target, codec, encoder, form, width, height)
    return VideoFileEncoding(
        encoder=encoder.name,
        container=container,
        options={**encoder.options, **_library_options(codec, probe), "crf": str(crf)},
        threads=min(os.cpu_count() or 1, MOST_THREADS),
        width=width,
        height=height,
        format=form,
        colour=YUV_COLOUR if probe.format.is_rgb else probe.colour,
        time_base=probe.time_base,
        rate=probe.rate.limit_denominator(1001),
        aspect=probe.aspect,
        matrix=_scaled(probe.matrix, scale),
    )


def _library_options(codec: VideoCodec, probe: VideoProbe) -> Mapping[str, str]:
    """What x264 and x265 are told past FFmpeg.

    x264's code for AVX-512 makes other bits than its C code, and not the same ones in each run; AVX2's does.
    """
    if codec is VideoCodec.H265:
        hdr = f":{probe.hdr.x265_params}" if probe.hdr else ""
        return {"x265-params": f"log-level=none{hdr}"}
    has_avx512 = _CPUINFO.exists() and "avx512" in _CPUINFO.read_text(encoding="ascii", errors="replace")
    return {"x264-params": "asm=avx2"} if codec is VideoCodec.H264 and has_avx512 else {}


def can_write_rotation() -> bool:
    """Whether this PyAV writes display matrices; 17.1 does."""
    return hasattr(av.VideoStream, "set_display_matrix")


def _codec_for(target: Path, form: PixelFormat, wanted: VideoCodec | None) -> VideoCodec:
    _, offered = _CONTAINERS[target.suffix.lower()]
    if wanted is not None and wanted not in offered:
        raise UsageError(
            f"{wanted} video cannot be written to {target.suffix} files",
            found=wanted.value,
            wanted=_values(offered),
            remedy=f"choose {_listed(offered)}, or write a .mkv file",
        )
    able = [codec for codec in _by_depth(offered, form) if form.value in _formats_of(codec)]
    if not able:
        raise UsageError(
            f"{form} pixels cannot be written to {target.suffix} files",
            found=form.value,
            wanted=(".mkv", ".mp4"),
            remedy="write a .mkv or .mp4 file",
        )
    if wanted is not None and wanted not in able:
        raise UsageError(
            f"{wanted} cannot encode {form} pixels with this build of FFmpeg",
            found=wanted.value,
            wanted=_values(able),
            remedy=f"choose {_listed(able)}",
        )
    return wanted or able[0]


def _values(codecs: Iterable[VideoCodec]) -> tuple[str, ...]:
    return tuple(codec.value for codec in codecs)


def _listed(codecs: Iterable[VideoCodec]) -> str:
    return f"--codec {' or '.join(_values(codecs))}"


def _by_depth(offered: tuple[VideoCodec, ...], form: PixelFormat) -> list[VideoCodec]:
    """Above 8 bits H.264 comes last: few players take it."""
    return sorted(offered, key=lambda codec: form.bits > 8 and codec is VideoCodec.H264)


def _formats_of(codec: VideoCodec) -> set[str]:
    try:
        return {form.name for form in av.Codec(_ENCODERS[codec].name, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        return set()


def _require_size(
    target: Path, codec: VideoCodec, encoder: _Encoder, form: PixelFormat, width: int, height: int
) -> None:
    size = f"{width}x{height}"
    if max(width, height) > encoder.longest_side_px:
        raise UsageError(
            f"{target} would be {size}, but {codec} allows at most {encoder.longest_side_px} pixels in each dimension",
            found=(width, height),
            wanted=encoder.longest_side_px,
            remedy="use a model with a smaller scale",
        )
    columns, rows = form.chroma.value if form.chroma else Chroma.C444.value
    if not encoder.takes_odd_sides and (width % columns or height % rows):
        raise UsageError(
            f"{target} would be {size}, but {codec} with {form} pixels requires even dimensions",
            found=(width, height),
            wanted="even width and height",
            remedy="choose --codec vp9 in a .mkv, .mp4 or .webm file, or a model of scale 2 or 4",
        )


def _scaled(matrix: Matrix | None, scale: int) -> Matrix | None:
    """The same turn of a larger picture: only where it is moved to is in pixels."""
    if matrix is None:
        return None
    return tuple(scale * value if place in (6, 7) else value for place, value in enumerate(matrix))

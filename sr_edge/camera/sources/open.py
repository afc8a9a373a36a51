"""Opens the source that a path, an address or a keyword names."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.codecs import CodecKind, video_codec
from sr_edge.camera.media.raw_format import RawFormat
from sr_edge.camera.protocols import Source
from sr_edge.camera.sources.connection import DEFAULT_OPEN_S, STANDARD_INPUT, FFmpegInput
from sr_edge.camera.sources.ffmpeg import FFmpegSource
from sr_edge.camera.sources.ffmpeg_options import require_known_options
from sr_edge.camera.sources.image_folder import ImageFolderSource
from sr_edge.camera.sources.raw import RawSource
from sr_edge.camera.sources.reconnect import ReconnectingSource
from sr_edge.camera.sources.wrappers import PacedSource
from sr_edge.errors import RuntimeUnavailable, StreamError, UsageError
from sr_edge.printable import scheme_of, without_secrets

SOURCES = (
    "/dev/video0 (a camera), rtsp://, rtmp://, srt://, udp://, rtp:// or http(s):// address, a video file, "
    "a folder of images, a named pipe, - (standard input), test:320x180@30 (a test pattern), lavfi:GRAPH, "
    "gst:PIPELINE"
)
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
_SCHEMES = (*_LIVE_SCHEMES, "http", "https")
_TEST = re.compile(r"test:(?:(\d+)x(\d+)(?:@(\d+(?:/[1-9]\d*)?))?)?")
_DEFAULT_TEST = ("320", "180", "30")
_DEFAULT_RATE = Fraction(30)


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source that its address does not contain.

    Attributes:
        raw: the format of raw video; only for pipes, files and standard input.
        rate: frames per second of a folder of images or a numbered sequence, where None means 30, and of other sources
            that announce none.
        decoder: FFmpeg's name of the decoder, for example h264_cuvid; one that does not work here is an error, and
            nothing replaces it. None lets FFmpeg choose one.
        is_paced: whether a file delivers its frames in real time, like a camera.
        ffmpeg: options of FFmpeg's demuxer or protocol, such as `video_size` and `framerate` of a camera.
        reconnects: whether a live source is opened again when it is lost.
        open_timeout_s: a live or network source must be open, with all that it refers to, within this time.
        timeout_s: a live source that sends nothing for this long is lost.
        give_up_s: the time after which the attempts to reconnect end; None never gives up.
        is_deinterlaced: whether the frames are deinterlaced; only for sources that FFmpeg decodes.
        on_event: called with every lost and restored connection, and with what the output will not have.
    """

    raw: RawFormat | None = None
    rate: Fraction | None = None
    is_paced: bool = False
    ffmpeg: Mapping[str, str] = field(default_factory=dict)
    reconnects: bool = True
    open_timeout_s: float = DEFAULT_OPEN_S
    timeout_s: float = 5.0
    give_up_s: float | None = None
    is_deinterlaced: bool = False
    on_event: Callable[[str], None] = ignore_event
    decoder: str | None = None


def open_source(text: str, options: SourceOptions | None = None) -> Source:
    """Opens the source that `text` names.

    Args:
        text: one of SOURCES.
        options: the options of the source; None means the defaults.

    Raises:
        StreamError: the source cannot be opened, or contains no video; the message contains no password.
        FrameError: the folder of images cannot be read.
        UsageError: the text is wrong, or an option does not apply to this source.
        RuntimeUnavailable: a GStreamer pipeline was given and GStreamer's Python bindings are not installed.
    """
    options = options or SourceOptions()
    require_source(text, options)
    source = _open(text, options)
    return PacedSource(source) if options.is_paced or text.startswith("test:") else source


def require_source(text: str, options: SourceOptions) -> None:
    """Checks what can be known of a source before it is opened and a model is loaded; `open_source` does, too.

    Args:
        text: the source, as for `open_source`.
        options: see `open_source`.

    Raises:
        StreamError: there is no such file or decoder.
        UsageError: the text is wrong, or an option does not apply to this source.
    """
    if not text:
        raise UsageError("the name of the source is empty", found=text, wanted=SOURCES, remedy=f"give {SOURCES}")
    path = Path(text)
    require_known_options(options.ffmpeg)
    if options.ffmpeg and (options.raw or path.is_dir() or text.startswith(("test:", "lavfi:", "gst:"))):
        raise UsageError(
            f"options of FFmpeg's demuxers ({', '.join(options.ffmpeg)}) do not apply to {without_secrets(text)}, "
            "which no demuxer of FFmpeg reads",
            found=list(options.ffmpeg),
            wanted="a file, address or camera that a demuxer of FFmpeg reads",
            remedy="leave them out",
        )
    if options.is_deinterlaced:
        _require_decoded_by_ffmpeg(text, options, "--deinterlace")
    if options.decoder is not None:
        _require_decoded_by_ffmpeg(text, options, "--decoder")
        video_codec(options.decoder, CodecKind.DECODER, without_secrets(text))
    if options.rate is not None:
        _require_rate_applies(text, options)
    if text.startswith("test:"):
        _test_graph(text)
    if scheme_of(text) and not text.startswith(("test:", "lavfi:", "gst:")):
        _require_scheme(text)
    if _is_recorded_file(text, options):
        _require_content(path)


def _is_recorded_file(text: str, options: SourceOptions) -> bool:
    """Whether FFmpeg reads the source as a file with a header."""
    path = Path(text)
    if text == "-" or options.raw is not None or text.startswith(("test:", "lavfi:", "gst:")) or scheme_of(text):
        return False
    return not (path.is_char_device() or path.is_dir() or _is_image_sequence(path))


def _open(text: str, options: SourceOptions) -> Source:
    path = Path(text)
    if options.raw is not None:
        return RawSource(None if text == "-" else path, options.raw)
    if text.startswith("gst:"):
        return _open_pipeline(text.removeprefix("gst:"), options)
    if text.startswith(("test:", "lavfi:")):
        return _open_recorded(text, options)
    if scheme_of(text):
        return _open_address(text, options)
    if path.is_char_device():
        return _open_ffmpeg(text, options, "v4l2", is_live=True)
    if path.is_dir():
        return ImageFolderSource(path, options.rate or _DEFAULT_RATE, options.on_event)
    return _open_recorded(text, options)


def _open_recorded(text: str, options: SourceOptions) -> Source:
    """Opens what FFmpeg reads at the speed of this process: a file, standard input, a sequence of images, a graph."""
    if text == "-":
        return _open_ffmpeg(STANDARD_INPUT, options, is_live=False)
    if text.startswith(("test:", "lavfi:")):
        graph = _test_graph(text) if text.startswith("test:") else text.removeprefix("lavfi:")
        return _open_ffmpeg(graph, options, "lavfi", is_live=False)
    if _is_image_sequence(Path(text)):
        rate = {"framerate": str(options.rate or _DEFAULT_RATE)}
        options = replace(options, ffmpeg={**rate, **options.ffmpeg}, rate=None)
        return _open_ffmpeg(text, options, is_live=False)
    return _open_ffmpeg(text, options, is_live=False)


def _require_decoded_by_ffmpeg(text: str, options: SourceOptions, option: str) -> None:
    if options.raw is not None or Path(text).is_dir() or text.startswith("gst:"):
        raise UsageError(
            f"{option} applies to what FFmpeg decodes, and {without_secrets(text)} is not decoded by it",
            found=without_secrets(text),
            wanted="a video file, a camera or an address",
            remedy="add an element to the pipeline instead" if text.startswith("gst:") else "leave it out",
        )


def _is_image_sequence(path: Path) -> bool:
    """Whether the path is a pattern for a numbered sequence of images, such as p%04d.png."""
    return "%" in path.name and not path.exists()


def _require_rate_applies(text: str, options: SourceOptions) -> None:
    if options.raw is not None or text.startswith(("test:", "lavfi:")):
        raise UsageError(
            f"the frame rate of {without_secrets(text)} is part of its description, and --rate {options.rate} would "
            "have no effect",
            found=options.rate,
            wanted="a source without a frame rate",
            remedy="change the rate in the description",
        )
    if "framerate" in options.ffmpeg:
        raise UsageError(
            f"the frame rate is given twice, as {options.rate} and as FFmpeg's option framerate="
            f"{options.ffmpeg['framerate']}",
            found=(options.rate, options.ffmpeg["framerate"]),
            wanted="one frame rate",
            remedy="give one of the two",
        )


def _test_graph(text: str) -> str:
    match = _TEST.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a test pattern",
            found=text,
            wanted="test:WIDTHxHEIGHT@RATE",
            remedy="write test:WIDTHxHEIGHT@RATE, for example test:320x180@30",
        )
    width, height, rate = (value or default for value, default in zip(match.groups(), _DEFAULT_TEST, strict=True))
    if 0 in (numbers := (int(width), int(height), Fraction(rate))):
        raise UsageError(
            f"the test pattern {text!r} has no pixels or no frames",
            found=numbers,
            wanted="a width, height and rate above 0",
            remedy="give a width, a height and a rate above 0",
        )
    return f"testsrc2=size={width}x{height}:rate={rate},format=yuv420p"


def _open_pipeline(pipeline: str, options: SourceOptions) -> Source:
    """Loads the GStreamer source on demand: few systems have the bindings that its module imports."""
    try:
        from sr_edge.camera.sources.gst.source import open_gst_source
    except (ImportError, ValueError) as error:
        raise RuntimeUnavailable(
            "a GStreamer pipeline needs the system's Python with PyGObject and GStreamer's bindings, which this "
            f"interpreter lacks ({error})",
            found=sys.executable,
            wanted=("PyGObject", "GStreamer"),
            remedy="see docs/camera.md for the installation, or give another source",
        ) from error
    return open_gst_source(
        pipeline,
        silence_s=options.timeout_s,
        give_up_s=options.give_up_s,
        on_event=options.on_event,
        rate=options.rate,
    )


def _require_scheme(text: str) -> None:
    scheme = scheme_of(text)
    if scheme not in _SCHEMES:
        raise UsageError(
            f"{without_secrets(text)}: sources of the scheme {scheme}:// are not supported",
            found=scheme,
            wanted=_SCHEMES,
            remedy=f"give {SOURCES}",
        )


def _open_address(text: str, options: SourceOptions) -> Source:
    scheme = scheme_of(text)
    default_options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
    is_live = True if scheme in _LIVE_SCHEMES else None
    return _open_ffmpeg(text, replace(options, ffmpeg={**default_options, **options.ffmpeg}), is_live=is_live)


def _open_ffmpeg(url: str, options: SourceOptions, format: str | None = None, *, is_live: bool | None) -> Source:
    """Opens what FFmpeg reads; a live source is opened again when it is lost."""
    ffmpeg_input = FFmpegInput(
        url,
        format,
        options.ffmpeg,
        is_live,
        open_s=options.open_timeout_s,
        timeout_s=options.timeout_s,
        is_deinterlaced=options.is_deinterlaced,
        rate=options.rate,
        decoder=options.decoder,
    )
    source = FFmpegSource(ffmpeg_input, on_event=options.on_event)
    if not (source.is_live and options.reconnects):
        return source
    return ReconnectingSource(
        source,
        lambda lost: FFmpegSource(ffmpeg_input, lost),
        timeout_s=2 * options.timeout_s,  # FFmpeg's own timeout expires first, and its error names the reason
        give_up_s=options.give_up_s,
        on_event=options.on_event,
    )


def _require_content(path: Path) -> None:
    """Checks a path with clearer messages than FFmpeg's."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise StreamError(
            f"there is no file or device {path}",
            found=path,
            remedy="check its name, and for a camera that it is plugged in",
        ) from None
    except OSError as error:
        raise StreamError(
            f"{path}: {error.strerror}", found=path, remedy="check the permissions of its folder"
        ) from None
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise StreamError(
            f"the file {path} is empty (0 bytes)", found=0, wanted="a video", remedy="copy or record it again"
        )

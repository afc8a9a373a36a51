"""Opens the sink that a path, an address or a keyword names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.codecs import CodecKind, is_hardware, video_codec
from sr_edge.camera.media.conversion import YUV_COLOUR
from sr_edge.camera.media.encoder_settings import encodable_format, require_encoder, require_opens
from sr_edge.camera.media.frame import Colour, PixelFormat
from sr_edge.camera.protocols import Sink, Source
from sr_edge.camera.sinks.checked_file import BEING_WRITTEN, is_being_written
from sr_edge.camera.sinks.encoded import EncodedSink, StreamEncoding
from sr_edge.camera.sinks.raw import RawSink
from sr_edge.camera.sinks.reconnect import ReconnectingSink
from sr_edge.camera.sinks.simple import NullSink
from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file
from sr_edge.printable import scheme_of, without_secrets
from sr_edge.spec import take_names

SINKS = (
    "a video file (.mp4, .mov, .mkv, .ts), rtsp://, rtmp://, srt:// or udp:// address, "
    "- (raw frames on standard output), null"
)
_UNENCODED = ("-", "null", "null:")
_CONTAINERS = {"rtsp": "rtsp", "rtmp": "flv", "srt": "mpegts", "udp": "mpegts", "tcp": "mpegts"}
_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".ts", ".avi", ".nut")
_WITH_TIMECODE = (".mp4", ".mov", ".mkv")
_WITH_B_FRAMES = (".mp4", ".mov", ".m4v", ".mkv")
"""Containers whose times start at the first frame shown. The others start at the first frame coded: with B-frames,
which are coded after later frames, everything would be shown too late."""
_FRAGMENTED = "frag_keyframe+empty_moov+delay_moov"
"""A fragmented file can be played up to the last key frame if the program is killed; `delay_moov` keeps exact times."""
_KEY_FRAMES_S = 1.0
"""Key frame interval for live sources. Frames after the last key frame are lost if the program is killed."""


@dataclass(frozen=True)
class SinkOptions:
    """How video is encoded and sent.

    Attributes:
        codec: FFmpeg's name of the encoder; one that does not work here is an error, and nothing replaces it.
        codec_options: options of the encoder, which override the defaults.
        pixel_format: of the encoded frames; None keeps that of the frames, and RGB and gray become 4:2:0.
        give_up_s: the time after which the attempts to reconnect end; None never gives up.
        timeout_s: the connection to an RTSP server that does not respond for this long is lost.
        on_event: called with lost and restored connections, and with streams that the container does not support.
        has_timecode: whether a recording of a live source states when its first frame was captured, as a timecode and
            as the time of creation, in UTC.
    """

    codec: str = "libx264"
    codec_options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: PixelFormat | None = None
    give_up_s: float | None = None
    timeout_s: float = 5.0
    on_event: Callable[[str], None] = ignore_event
    has_timecode: bool = False

    def __post_init__(self) -> None:
        take_names(self, pixel_format=PixelFormat)


def open_sink(text: str, source: Source, options: SinkOptions | None = None, stdout: int = 1) -> Sink:
    """Opens the sink that `text` names.

    Args:
        text: one of SINKS.
        source: the source of the frames. A live source is encoded with low latency; its audio is written, too.
        options: the options of the encoder and the connection; None means the defaults.
        stdout: the file descriptor for "-".

    Raises:
        StreamError: the sink cannot be opened; the message contains no password.
        UsageError: there is no such kind of sink, or the path cannot be written.
    """
    options = options or SinkOptions()
    require_sink(text, options)
    if options.has_timecode:
        _require_live(source)
    if text == "-":
        return RawSink(stdout)
    if text in _UNENCODED:
        return NullSink()
    return _open_address(text, source, options) if scheme_of(text) else _open_file(Path(text), source, options)


def require_sink(text: str, options: SinkOptions) -> None:
    """Checks what can be known of a sink before its source is opened and a model is loaded; `open_sink` does, too.

    Args:
        text: the sink, as for `open_sink`.
        options: see `open_sink`.

    Raises:
        StreamError: there is no such encoder, or it does not accept its options.
        UsageError: there is no such kind of sink, the path cannot be written, or an option does not apply.
    """
    is_encoded = text not in _UNENCODED
    if not is_encoded and (options.codec != SinkOptions.codec or options.codec_options or options.pixel_format):
        raise UsageError(
            f"an encoder and its options have no effect on the sink {text}, which is not encoded",
            found=text,
            wanted="a video file or an address",
            remedy="leave them out",
        )
    if options.has_timecode:
        _require_timecode_applies(text)
    if not is_encoded:
        return
    if scheme_of(text):
        _container_of(text)
    else:
        _require_file(Path(text))
    require_encoder(options.codec, options.codec_options, without_secrets(text), options.pixel_format)


def _require_timecode_applies(text: str) -> None:
    if scheme_of(text) or Path(text).suffix.lower() not in _WITH_TIMECODE:
        raise UsageError(
            f"--timecode has no effect on {without_secrets(text)}, which cannot store a timecode",
            found=text if not scheme_of(text) else scheme_of(text),
            wanted=_WITH_TIMECODE,
            remedy=f"leave it out, or record to a file that ends in {', '.join(_WITH_TIMECODE)}",
        )


def _require_live(source: Source) -> None:
    if not source.is_live:
        raise UsageError(
            f"--timecode is the time at which a live source was captured, and {source.name} is not live",
            found=source.name,
            wanted="a camera or another live source",
            remedy="leave it out",
        )


def require_encodable(
    text: str, options: SinkOptions, pixel_format: PixelFormat, width: int, height: int, colour: Colour | None = None
) -> None:
    """Checks before the first frame is upscaled whether a sink can take the results.

    Args:
        text: the sink, as for `open_sink`.
        options: see `open_sink`.
        pixel_format: the format of the frames.
        width: the width of the upscaled frames, in pixels.
        height: the height of the upscaled frames, in pixels.
        colour: the colour of the frames; None means that of YUV made from RGB.

    Raises:
        StreamError: the encoder does not support such frames, does not open, or lacks an option.
    """
    if text in _UNENCODED:
        return
    name = without_secrets(text)
    encoded = encodable_format(pixel_format, width, height, options.codec, name, options.pixel_format)
    if options.codec != SinkOptions.codec or options.codec_options:
        colour = YUV_COLOUR if colour is None or pixel_format.is_rgb else colour
        require_opens(options.codec, encoded, (width, height), options.codec_options, name, colour.range)


def _container_of(text: str) -> str:
    """FFmpeg's name of the container format for an address; raises UsageError for a scheme without one."""
    container = _CONTAINERS.get(scheme_of(text))
    if container is None:
        raise UsageError(
            f"{without_secrets(text)}: sinks of the scheme {scheme_of(text)}:// are not supported",
            found=scheme_of(text),
            wanted=tuple(_CONTAINERS),
            remedy=f"give {SINKS}",
        )
    return container


def _open_address(text: str, source: Source, options: SinkOptions) -> Sink:
    container = _container_of(text)
    encoding = _encoding(text, source, options, container, {}, allows_b_frames=False)
    if container == "rtsp":
        # PyAV connects without releasing the GIL: without a timeout not even Ctrl-C could interrupt it.
        container_options = {"rtsp_transport": "tcp", "timeout": f"{1e6 * options.timeout_s:.0f}"}
        encoding = replace(encoding, container_options=container_options, timeout_s=options.timeout_s)
    return ReconnectingSink(
        lambda: EncodedSink(encoding, source.info, options.on_event),
        source.info.passthrough,
        give_up_s=options.give_up_s,
        on_event=options.on_event,
    )


def _require_file(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"cannot write {path}: the suffix {path.suffix or '(none)'} is none of {' '.join(_SUFFIXES)}",
            found=path.suffix,
            wanted=_SUFFIXES,
            remedy=f"give {SINKS}",
        )
    require_output_file(path)
    if is_being_written(path):
        raise UsageError(
            f"cannot write {path}: {BEING_WRITTEN}",
            found=path,
            wanted="a file of its own",
            remedy="end the other stream, or give another name",
        )


def _open_file(path: Path, source: Source, options: SinkOptions) -> Sink:
    if path.exists() and Path(source.name).exists() and path.samefile(source.name):
        raise UsageError(
            f"{path} is both the source and the sink", found=path, remedy="give another name for the result"
        )
    suffix = path.suffix.lower()
    container_options = {"movflags": _FRAGMENTED} if suffix in _WITH_B_FRAMES[:3] else {}
    if source.is_live:
        container_options["flush_packets"] = "1"
        container_options |= {"cluster_time_limit": f"{1e3 * _KEY_FRAMES_S:.0f}"} if suffix == ".mkv" else {}
    # With B-frames, libx265 gives the first frames of short streams no valid decoding times.
    allows_b_frames = suffix in _WITH_B_FRAMES and not source.is_live and options.codec != "libx265"
    return EncodedSink(
        _encoding(str(path), source, options, None, container_options, allows_b_frames), source.info, options.on_event
    )


def _encoding(
    url: str,
    source: Source,
    options: SinkOptions,
    container: str | None,
    container_options: Mapping[str, str],
    allows_b_frames: bool,
) -> StreamEncoding:
    """The encoding with its default options. B-frames make the stream smaller and increase its latency."""
    codec = video_codec(options.codec, CodecKind.ENCODER, without_secrets(url))
    default_options: dict[str, str] = {}
    if is_hardware(codec) and not allows_b_frames:
        default_options = {"bf": "0"}
    if options.codec in ("libx264", "libx265"):
        default_options = {"preset": "veryfast"}
        default_options |= {} if allows_b_frames else {"bf": "0"}
        # An encoder that looks ahead delays a stream with a low frame rate by seconds.
        default_options |= {"tune": "zerolatency", "forced-idr": "1"} if scheme_of(url) or source.is_live else {}
        default_options |= {"x265-params": "log-level=error"} if options.codec == "libx265" else {}
    key_frames_s = _KEY_FRAMES_S if source.is_live else None
    return StreamEncoding(
        url,
        container,
        options.codec,
        {**default_options, **options.codec_options},
        container_options,
        pixel_format=options.pixel_format,
        key_frames_s=key_frames_s,
        has_timecode=options.has_timecode,
    )

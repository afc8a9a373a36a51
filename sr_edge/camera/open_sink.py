"""From what a person writes to an open sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sr_edge.address import scheme_of, without_secrets
from sr_edge.camera.encoded_sink import EncodedSink, StreamEncoding, encodable_format
from sr_edge.camera.frame import PixelFormat
from sr_edge.camera.ports import Sink, Source, ignore_event
from sr_edge.camera.raw import RawSink
from sr_edge.camera.reopening_sink import ReopeningSink
from sr_edge.camera.simple_sinks import NullSink
from sr_edge.errors import StreamError, UsageError
from sr_edge.whole_file import require_output_file

SINKS = (
    "a video file (.mp4, .mov, .mkv, .ts), rtsp://, rtmp://, srt:// or udp:// address, "
    "- (raw frames on standard output), null"
)
_PLAIN = ("-", "null", "null:")
_CONTAINERS = {"rtsp": "rtsp", "rtmp": "flv", "srt": "mpegts", "udp": "mpegts", "tcp": "mpegts"}
_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".ts", ".avi", ".nut")
_REORDERING = (".mp4", ".mov", ".m4v", ".mkv")
"""Others count from the first coded frame, so that reordered ones would all be shown later than they should."""
_FRAGMENTED = "frag_keyframe+empty_moov+delay_moov"
"""Playable up to the last key frame even if the program is killed; `delay_moov` keeps the times exact."""
_KEY_FRAMES_S = 1.0
"""Of live sources. What is coded after the last of them is lost when the program is killed."""


@dataclass(frozen=True)
class SinkOptions:
    """How video is encoded and sent.

    Attributes:
        codec: FFmpeg's name of the encoder.
        codec_options: its own settings, over the usual ones.
        give_up_s: how long to try to reach a lost server again; None tries for good.
        silence_s: an RTSP server that takes or answers nothing for so long is lost.
        on_event: is told of every loss and return, and of what cannot be written.
    """

    codec: str = "libx264"
    codec_options: Mapping[str, str] = field(default_factory=dict)
    give_up_s: float | None = None
    silence_s: float = 5.0
    on_event: Callable[[str], None] = ignore_event


def open_sink(text: str, source: Source, options: SinkOptions | None = None, stdout: int = 1) -> Sink:
    """Opens what `text` names: see SINKS.

    Args:
        source: where the frames come from: a live one is encoded without delay, its audio is taken along.
        stdout: the file descriptor that "-" means.

    Raises:
        StreamError: it cannot be opened; the message names no password.
        UsageError: there is no such kind of sink, or the path cannot be written.
    """
    options = options or SinkOptions()
    is_encoded = text not in _PLAIN
    if not is_encoded and (options.codec != SinkOptions.codec or options.codec_options):
        raise UsageError(
            f"an encoder and its options have no effect on the sink {text}, which is not encoded",
            found=text,
            wanted="a video file or an address",
            remedy="leave them out",
        )
    if text == "-":
        return RawSink(stdout)
    if not is_encoded:
        return NullSink()
    if scheme_of(text):
        return _open_address(text, source, options)
    return _open_file(Path(text), source, options)


def require_holdable(text: str, options: SinkOptions, form: PixelFormat, width: int, height: int) -> None:
    """Raises StreamError where what `text` names could not hold such frames: to be asked before they are made."""
    if text not in _PLAIN:
        encodable_format(form, width, height, options.codec, without_secrets(text))


def _open_address(text: str, source: Source, options: SinkOptions) -> Sink:
    container = _CONTAINERS.get(scheme_of(text))
    if container is None:
        raise UsageError(
            f"{without_secrets(text)}: sinks of the scheme {scheme_of(text)}:// are not supported",
            found=scheme_of(text),
            wanted=tuple(_CONTAINERS),
            remedy=f"give {SINKS}",
        )
    encoding = _encoding(text, source, options, container, {}, reorders=False)
    if container == "rtsp":
        # PyAV connects without letting other threads run: without an end to that, not even Ctrl-C would be heard.
        flags = {"rtsp_transport": "tcp", "timeout": f"{1e6 * options.silence_s:.0f}"}
        encoding = replace(encoding, container_options=flags, silence_s=options.silence_s)
    return ReopeningSink(
        lambda: EncodedSink(encoding, source.info, options.on_event),
        source.info.passthrough,
        give_up_s=options.give_up_s,
        on_event=options.on_event,
    )


def _open_file(path: Path, source: Source, options: SinkOptions) -> Sink:
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"cannot write {path}: the suffix {path.suffix or '(none)'} is none of {' '.join(_SUFFIXES)}",
            found=path.suffix,
            wanted=_SUFFIXES,
            remedy=f"give {SINKS}",
        )
    if path.exists() and Path(source.name).exists() and path.samefile(source.name):
        raise UsageError(
            f"{path} is both the source and the sink", found=path, remedy="give another name for the result"
        )
    require_output_file(path)
    suffix = path.suffix.lower()
    flags = {"movflags": _FRAGMENTED} if suffix in _REORDERING[:3] else {}
    if source.is_live:
        flags["flush_packets"] = "1"
        flags |= {"cluster_time_limit": f"{1e3 * _KEY_FRAMES_S:.0f}"} if suffix == ".mkv" else {}
    # libx265 gives the first frames of short streams no valid decoding times where it reorders.
    reorders = suffix in _REORDERING and not source.is_live and options.codec != "libx265"
    return EncodedSink(_encoding(str(path), source, options, None, flags, reorders), source.info, options.on_event)


def _encoding(
    url: str, source: Source, options: SinkOptions, container: str | None, flags: Mapping[str, str], reorders: bool
) -> StreamEncoding:
    """`reorders` allows frames that are coded after later ones: smaller, but later too."""
    usual: dict[str, str] = {}
    if options.codec in ("libx264", "libx265"):
        usual = {"preset": "veryfast", "crf": "18"}
        usual |= {} if reorders else {"bf": "0"}
        # An encoder that looks ahead holds seconds of a slow stream back.
        usual |= {"tune": "zerolatency", "forced-idr": "1"} if scheme_of(url) or source.is_live else {}
        usual |= {"x265-params": "log-level=error"} if options.codec == "libx265" else {}
    if options.codec not in _known_encoders():
        raise StreamError(
            f"this build of FFmpeg has no encoder {options.codec}",
            found=options.codec,
            wanted=("libx264", "libx265"),
            remedy="use libx264 or libx265",
        )
    every_s = _KEY_FRAMES_S if source.is_live else None
    return StreamEncoding(
        url, container, options.codec, {**usual, **options.codec_options}, flags, key_frames_s=every_s
    )


def _known_encoders() -> set[str]:
    import av

    return set(av.codecs_available)

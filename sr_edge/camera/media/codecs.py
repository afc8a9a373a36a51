"""FFmpeg's encoders and decoders by name, and whether those of the hardware work on this machine.

FFmpeg lists hardware codecs whether or not the machine has the hardware, and some decoders even open without it. So
each is tried with a few frames, in a process of its own: a driver may crash or hang.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from enum import Enum
from functools import cache
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TextIO

import av

from sr_edge.camera.media.frame import PixelFormat
from sr_edge.errors import StreamError

_HARDWARE = 1 << 18 | 1 << 19
"""AV_CODEC_CAP_HARDWARE and AV_CODEC_CAP_HYBRID, which may fall back to software inside the vendor's library."""
_WORKER = (sys.executable, "-m", "sr_edge.camera.media.codec_trial")
TRIAL_LIMIT_S = 10.0
"""A trial takes milliseconds; loading a driver for the first time takes seconds."""


class CodecKind(str, Enum):
    """Whether a codec encodes or decodes."""

    ENCODER = "encoder"
    DECODER = "decoder"

    def __str__(self) -> str:
        return self.value

    @property
    def mode(self) -> Any:
        """PyAV's letter for it."""
        return "w" if self is CodecKind.ENCODER else "r"


@dataclass(frozen=True)
class CodecTrial:
    """What is tried: an encoder with black frames, or a decoder with a small video that is encoded for it.

    Attributes:
        name: FFmpeg's name of the codec.
        kind: Encoder or decoder.
        pixel_format: FFmpeg's name of the format of an encoder's frames.
        width: Width of an encoder's frames.
        height: Height of an encoder's frames.
        options: Options of the codec.
        color_range: FFmpeg's number of the range of an encoder's frames; 0 for unspecified.
    """

    name: str
    kind: CodecKind
    pixel_format: str = PixelFormat.I420.value
    width: int = 352
    height: int = 288
    options: Mapping[str, str] = field(default_factory=dict)
    color_range: int = 0


@dataclass(frozen=True)
class CodecVerdict:
    """Whether a codec works on this machine.

    Attributes:
        name: FFmpeg's name of the codec.
        kind: Encoder or decoder.
        works: Whether it has processed frames; None if it opens, but could not be tried with a frame.
        reason: Why it does not work, in the words of FFmpeg or the driver; empty if it works.
    """

    name: str
    kind: CodecKind
    works: bool | None
    reason: str = ""


def video_codec(name: str, kind: CodecKind, subject: str) -> Any:
    """PyAV's object for a video codec of this build of FFmpeg.

    Args:
        name: FFmpeg's name, such as h264_nvenc.
        kind: Encoder or decoder.
        subject: The name of the source or sink, for messages.

    Raises:
        StreamError: There is no such video encoder or decoder.
    """
    codec = _codec_or_none(name, kind)
    if codec is not None:
        return codec
    names = [name for name in av.codecs_available if _codec_or_none(name, kind) is not None]
    similar = get_close_matches(name, names, n=3)
    usual = ["libx264", "libx265"] if kind is CodecKind.ENCODER else []
    choices = list(dict.fromkeys([*similar, *usual]))
    raise StreamError(
        f"{subject}: this build of FFmpeg has no video {kind} {name}",
        found=name,
        wanted=choices,
        remedy=f"choose for example {', '.join(choices)}" if choices else "leave it out",
    )


def named_decoder(name: str, video: Any, subject: str, is_tried: bool = True) -> Any:
    """A codec context of a decoder that the user chose.

    Args:
        name: FFmpeg's name of the decoder.
        video: The video stream of a PyAV container.
        subject: The name of the source, for messages.
        is_tried: Whether a decoder of the hardware is tried first, in a process of its own.

    Raises:
        StreamError: There is no such decoder, it decodes another codec, or it does not work here.
    """
    own, codec = video.codec_context, video_codec(name, CodecKind.DECODER, subject)
    if codec.canonical_name != own.codec.canonical_name:
        raise StreamError(
            f"{subject} is {own.codec.canonical_name} video, and {name} decodes {codec.canonical_name}",
            found=codec.canonical_name,
            wanted=own.codec.canonical_name,
            remedy="choose another decoder, or none",
        )
    if is_tried and is_hardware(codec):
        require_works(CodecTrial(name, CodecKind.DECODER), subject)
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.width, decoder.height, decoder.extradata = own.width, own.height, own.extradata
    return decoder


def _codec_or_none(name: str, kind: CodecKind) -> Any:
    try:
        codec = av.Codec(name, kind.mode)
    except ValueError:  # also av.codec.codec.UnknownCodecError
        return None
    # A name such as h264 is that of a codec; FFmpeg would choose an encoder for it.
    return codec if codec.type == "video" and codec.name == name else None


def is_hardware(codec: Any) -> bool:
    """Whether FFmpeg marks a codec as a hardware codec."""
    return bool(codec.capabilities & _HARDWARE)


@cache
def supported_codecs(container: str) -> frozenset[str]:
    """FFmpeg's names of the codecs that a container format can contain."""
    with av.open(io.BytesIO(), "w", format=container) as trial:
        return frozenset(trial.supported_codecs)


def ffmpeg_version() -> str:
    """The version of the FFmpeg in PyAV, for example "8.1.2"."""
    return str(av.ffmpeg_version_info)


def hardware_codecs() -> tuple[CodecTrial, ...]:
    """The hardware encoders and decoders for video of this build of FFmpeg, as they can be tried."""
    trials = []
    for kind in CodecKind:
        for name in sorted(av.codecs_available):
            codec = _codec_or_none(name, kind)
            if codec is not None and is_hardware(codec):
                formats = encodable_formats(codec) if kind is CodecKind.ENCODER else []
                trials.append(CodecTrial(name, kind, (formats or [PixelFormat.I420])[0].value))
    return tuple(trials)


def encodable_formats(codec: Any) -> list[PixelFormat]:
    """The formats of this project that an encoder declares; empty if it declares none before it is open."""
    names = {video_format.name for video_format in codec.video_formats or ()}
    return [pixel_format for pixel_format in PixelFormat if pixel_format.value in names]


def require_works(trial: CodecTrial, subject: str) -> None:
    """Tries a codec in a process of its own.

    Raises:
        StreamError: It does not work on this machine, or not with its options; the message has the reason.
    """
    (verdict,) = try_codecs([trial])
    if verdict.works is not False:
        return
    if trial.options and try_codecs([replace(trial, options={})])[0].works is not False:
        raise _refused_options(trial, subject, verdict.reason)
    raise StreamError(
        f"{subject}: the {trial.kind} {trial.name} does not work here: {verdict.reason}",
        found=verdict.reason,
        wanted=f"a working {trial.kind}",
        remedy=f"`sr-edge doctor --codecs` lists the {trial.kind}s that work; nothing else is used in its place",
    )


def require_accepts(
    name: str, options: Mapping[str, str], subject: str, pixel_format: PixelFormat | None = None
) -> None:
    """Checks the options of a software encoder before size and format of the frames are known.

    A few small black frames are encoded in another process, in each pixel format that the encoder takes. What may be
    due to the size is not refused.

    Args:
        name: FFmpeg's name of the encoder.
        options: Its options.
        subject: The name of the sink, for messages.
        pixel_format: The only format to try; None tries all that the encoder takes.

    Raises:
        StreamError: There is no such encoder, or it works without these options and not with them.
    """
    codec = video_codec(name, CodecKind.ENCODER, subject)
    if not options or is_hardware(codec):
        return
    formats = (pixel_format,) if pixel_format else tuple(encodable_formats(codec)) or (PixelFormat.I420,)
    reason = _reason_against_options(name, tuple(sorted(options.items())), formats)
    if reason:
        raise _refused_options(CodecTrial(name, CodecKind.ENCODER, options=options), subject, reason)


@cache
def _reason_against_options(name: str, options: tuple[tuple[str, str], ...], formats: tuple[PixelFormat, ...]) -> str:
    """Why an encoder accepts these options in none of the formats; empty if it does, or does not work without them."""
    plain = [CodecTrial(name, CodecKind.ENCODER, pixel_format.value) for pixel_format in formats]
    verdicts = try_codecs([replace(trial, options=dict(options)) for trial in plain])
    if any(verdict.works is not False for verdict in verdicts):
        return ""
    return verdicts[0].reason if any(verdict.works for verdict in try_codecs(plain)) else ""


def _refused_options(trial: CodecTrial, subject: str, reason: str) -> StreamError:
    return StreamError(
        f"{subject}: the {trial.kind} {trial.name} does not accept its options: {reason}",
        found=dict(trial.options),
        wanted="options that it accepts",
        remedy="check their names and values, or leave them out",
    )


def try_codecs(
    trials: Sequence[CodecTrial], command: Sequence[str] = _WORKER, limit_s: float = TRIAL_LIMIT_S
) -> tuple[CodecVerdict, ...]:
    """Tries codecs one after the other in another process, which is started again after one that crashes or hangs.

    Args:
        trials: What is tried.
        command: The program that reads a JSON array of trials from standard input and prints a JSON object for each.
        limit_s: How long one trial may take.
    """
    verdicts: list[CodecVerdict] = []
    while len(verdicts) < len(trials):
        remaining = trials[len(verdicts) :]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            answers = _Answers(process, remaining)
            try:
                verdicts += answers.verdicts(remaining, limit_s)
                if len(verdicts) < len(trials):
                    culprit = trials[len(verdicts)]
                    verdicts.append(CodecVerdict(culprit.name, culprit.kind, False, answers.failure(limit_s)))
            finally:
                process.kill()
                answers.reader.join()  # it ends with the process; the pipe must not be closed while it reads
    return tuple(verdicts)


class _Answers:
    """The lines that the other process prints, read by a thread so that each can be waited for with a limit."""

    def __init__(self, process: subprocess.Popen[str], trials: Iterable[CodecTrial]) -> None:
        self._process = process
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._has_timed_out = False
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs pipes for standard input and output")
        try:
            with process.stdin as pipe:
                json.dump([asdict(trial) for trial in trials], pipe)
        except BrokenPipeError:
            pass  # it has ended, which `failure` reports
        self.reader = Thread(target=_read_lines, args=(process.stdout, self._lines.put), daemon=True)
        self.reader.start()

    def verdicts(self, trials: Iterable[CodecTrial], limit_s: float) -> list[CodecVerdict]:
        """The verdicts up to the first trial that the process did not survive, or for which it takes too long."""
        verdicts = []
        for trial in trials:
            try:
                line = self._lines.get(timeout=limit_s)
            except Empty:
                self._has_timed_out = True
                break
            if not line:
                break
            verdicts.append(CodecVerdict(trial.name, trial.kind, **json.loads(line)))
        return verdicts

    def failure(self, limit_s: float) -> str:
        """Why the process gave no verdict."""
        if self._has_timed_out:
            return f"it did not answer within {limit_s:g} s"
        code = self._process.wait()
        return f"the driver crashed with signal {-code}" if code < 0 else f"the trial ended with exit code {code}"


def _read_lines(stream: TextIO, put: Callable[[str], None]) -> None:
    for line in stream:
        put(line)
    put("")  # the end: every line of the process has at least a line break

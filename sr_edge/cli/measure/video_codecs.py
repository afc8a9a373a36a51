"""What `sr-edge doctor` reports about the hardware encoders and decoders of FFmpeg and GStreamer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sr_edge.installation import how_to_install

if TYPE_CHECKING:
    from rich.console import Group

    from sr_edge.camera.media.codecs import CodecVerdict

_HEADINGS = {True: "works", None: "not tried with a frame", False: "does not work"}

_Line = tuple[int, str]
"""A text and its indentation."""


@dataclass(frozen=True)
class VideoCodecs:
    """The hardware encoders and decoders that the libraries for video offer, and whether they work here.

    Attributes:
        ffmpeg: Version of FFmpeg; None if PyAV is not installed.
        ffmpeg_codecs: The hardware codecs that are compiled into FFmpeg.
        gstreamer_elements: The hardware elements of GStreamer; None if its tools are not installed.
    """

    ffmpeg: str | None
    ffmpeg_codecs: tuple[CodecVerdict, ...]
    gstreamer_elements: tuple[CodecVerdict, ...] | None


def try_video_codecs() -> VideoCodecs:
    """Tries each hardware codec with a few frames, in other processes, because drivers may crash."""
    from sr_edge.camera.sources.gst.hardware_elements import hardware_elements

    if not _has_pyav():
        return VideoCodecs(None, (), None)
    from sr_edge.camera.media.codecs import ffmpeg_version, hardware_codecs, try_codecs

    return VideoCodecs(ffmpeg_version(), try_codecs(hardware_codecs()), hardware_elements())


def compiled_line() -> str:
    """One line on the hardware codecs that are compiled into FFmpeg, which says nothing about this machine."""
    if not _has_pyav():
        return _without_pyav()
    from sr_edge.camera.media.codecs import ffmpeg_version, hardware_codecs

    counts = Counter(str(trial.kind) for trial in hardware_codecs())
    return (
        f"FFmpeg {ffmpeg_version()} has {counts['encoder']} encoders and {counts['decoder']} decoders for "
        "hardware; `sr-edge doctor --codecs` tries which of them work here"
    )


def readable(codecs: VideoCodecs) -> Group:
    """The codecs that work, and the others by the reason against them; long lines keep their indentation."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    return Group(*(Padding(Text(text), (0, 0, 0, indentation)) for indentation, text in _lines(codecs)))


def _lines(codecs: VideoCodecs) -> Iterator[_Line]:
    if codecs.ffmpeg is None:
        yield 0, _without_pyav()
    else:
        yield 0, f"FFmpeg {codecs.ffmpeg}, hardware codecs (for --codec and --decoder)"
        yield from _by_reason(codecs.ffmpeg_codecs)
    elements = codecs.gstreamer_elements
    if elements is None:
        yield 0, "GStreamer: gst-inspect-1.0 is not installed"
    elif elements:
        yield 0, "GStreamer, hardware elements (for gst: sources and pipelines with sredge)"
        yield from _by_reason(elements)
    else:
        yield 0, "GStreamer has registered no hardware encoder or decoder"
    yield 0, "Memory of the GPU (NVMM, DMABuf) is not used: frames are copied to and from the CPU's memory."


def _by_reason(verdicts: Sequence[CodecVerdict]) -> Iterator[_Line]:
    for works, heading in _HEADINGS.items():
        chosen = [verdict for verdict in verdicts if verdict.works is works]
        if works and not chosen:
            yield 2, "works: none"
        for reason in dict.fromkeys(verdict.reason for verdict in chosen):
            yield 2, f"{heading}{': ' if reason else ''}{reason}"
            yield from _named(verdict for verdict in chosen if verdict.reason == reason)


def _named(verdicts: Iterable[CodecVerdict]) -> Iterator[_Line]:
    by_kind: dict[str, list[str]] = {}
    for verdict in verdicts:
        by_kind.setdefault(str(verdict.kind), []).append(verdict.name)
    return ((4, f"{kind}s: {', '.join(names)}") for kind, names in by_kind.items())


def _has_pyav() -> bool:
    from importlib.util import find_spec

    return find_spec("av") is not None


def _without_pyav() -> str:
    return f"video: PyAV is not installed; install it with: {how_to_install('camera')}"

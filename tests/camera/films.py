"""Writes short synthetic videos with audio, subtitles and metadata, and reads frames and packets back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from sr_edge.camera.media.encoder_settings import scheduling_kept

MILLISECOND = Fraction(1, 1000)
VIDEO_CLOCK = Fraction(1, 90_000)

UNEVEN = (0, 3003, 6006, 9000, 9500, 20_000, 20_001, 30_000, 40_000, 50_000, 60_000, 70_000, 70_010, 73_000)
"""Timestamps in units of 1/90000 s that fit no frame rate."""


@dataclass(frozen=True)
class Film:
    """The properties of a synthetic video; each frame is lighter than the one before.

    Attributes:
        audio: FFmpeg's encoder of a tone as long as the video; empty for no audio.
        subtitles: (start, duration, text) in milliseconds, in the format of the container.
        matrix: The display matrix.
        colour: Range, matrix, primaries, transfer.
        options: Options of the encoder; empty for the defaults of these tests.
    """

    pts: Sequence[int] = tuple(range(0, 12 * 3000, 3000))
    time_base: Fraction = VIDEO_CLOCK
    codec: str = "libx264"
    form: str = "yuv420p"
    width: int = 64
    height: int = 48
    audio: str = ""
    subtitles: Sequence[tuple[int, int, str]] = ()
    matrix: Sequence[int] | None = None
    colour: tuple[int, int, int, int] = (1, 1, 1, 1)
    aspect: Fraction | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    container: str | None = None


def shoot(path: Path, film: Film) -> Path:
    """Writes the video without shifting its timestamps."""
    clock = str(film.time_base.denominator)
    options = {"video_track_timescale": clock, "movie_timescale": clock} if path.suffix in (".mp4", ".mov") else {}
    with ExitStack() as stack:
        stack.enter_context(scheduling_kept())  # SVT-AV1 makes this process real-time otherwise
        out = stack.enter_context(av.open(path, "w", format=film.container, options=options))
        out.metadata.update(film.metadata)
        video = _video_stream(out, film)
        audio: Any = out.add_stream(film.audio, rate=48_000) if film.audio else None
        text: Any = None
        if film.subtitles:
            text = out.add_mux_stream("mov_text" if path.suffix in (".mp4", ".mov") else "subrip")
            text.time_base = MILLISECOND
        for number, pts in enumerate(film.pts):
            out.mux(video.encode(_picture(film, number, pts)))
        out.mux(video.encode(None))
        if audio is not None:
            _write_tone(out, audio, film)
        for subtitle in film.subtitles:
            out.mux(_subtitle(text, *subtitle))
    return path


def _video_stream(out: Any, film: Film) -> Any:
    own = {"libx264": {"g": "6", "bf": "2"}, "libx265": {"x265-params": "log-level=none"}, "mpeg4": {"bf": "0"}}
    video = out.add_stream(film.codec, rate=30, options=film.options or own.get(film.codec, {}))
    video.width, video.height, video.pix_fmt = film.width, film.height, film.form
    context = video.codec_context
    context.time_base = video.time_base = film.time_base
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = film.colour
    if film.aspect is not None:
        context.sample_aspect_ratio = film.aspect
    if film.matrix is not None:
        video.set_display_matrix(film.matrix)
    return video


def level(number: int) -> int:
    """The 8-bit gray level of frame `number`, which differs from its neighbours even after lossy compression."""
    return 20 + 12 * (number % 16)


def _picture(film: Film, number: int, pts: int) -> av.VideoFrame:
    """A gradient in the upper quarter, and the gray level of the frame below it."""
    codes = np.full((film.height, film.width), level(number), np.uint8)
    codes[: film.height // 4] = np.linspace(16, 200, film.width).astype(np.uint8)
    if film.form.startswith("bgr"):
        picture = av.VideoFrame.from_ndarray(codes, "gray").reformat(format=film.form)
    else:
        picture = av.VideoFrame(film.width, film.height, film.form)
        for index, plane in enumerate(picture.planes):
            samples, step = samples_of(picture, index)
            samples[:] = step * (codes if index == 0 else np.full((plane.height, plane.width), 128, np.uint8))
    picture.pts, picture.time_base = pts, film.time_base
    picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc = film.colour
    return picture


def samples_of(picture: Any, index: int) -> tuple[Any, int]:
    """A writable (height, width) view of a plane, and the factor from 8-bit values to its values."""
    kind, step = (np.uint16, 4) if picture.format.name.endswith("10le") else (np.uint8, 1)
    plane = picture.planes[index]
    rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
    return rows[:, : plane.width], step


def _write_tone(out: Any, audio: Any, film: Film) -> None:
    start, end = (round(pts * film.time_base * 48_000) for pts in (film.pts[0], film.pts[-1]))
    form = audio.codec_context.format.name
    for at in range(start, end, 960):
        tone = np.sin(np.arange(at, at + 960) / 17).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
        for resampled in av.AudioResampler(form, "stereo", 48_000).resample(frame):
            out.mux(audio.encode(resampled))
    out.mux(audio.encode(None))


def _subtitle(stream: Any, start_ms: int, duration_ms: int, text: str) -> Any:
    coded = text.encode()
    packet = av.Packet(
        len(coded).to_bytes(2, "big") + coded if stream.container.format.name in ("mp4", "mov") else coded
    )
    packet.pts = packet.dts = start_ms
    packet.duration, packet.time_base, packet.is_keyframe, packet.stream = duration_ms, MILLISECOND, True, stream
    return packet


def pictures_of(path: Path) -> list[Any]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def pts_of(path: Path) -> tuple[Fraction, list[int]]:
    """The time base, and the pts of every frame."""
    with av.open(path) as container:
        return container.streams.video[0].time_base, [picture.pts for picture in container.decode(video=0)]


def times_of(path: Path) -> list[Fraction]:
    """The timestamp of every frame in seconds."""
    base, pts = pts_of(path)
    return [time * base for time in pts]


def numbers_of(path: Path) -> list[int]:
    """The number of each frame (see `level`), by the luma of its lower half."""
    numbers = []
    for picture in pictures_of(path):
        luma, step = samples_of(picture, 0)
        numbers.append(round((float(luma[picture.height // 2 :].mean()) / step - 20) / 12))
    return numbers


def packets_of(path: Path, kind: str) -> list[tuple[Fraction, Fraction, bytes]]:
    """Start and duration in seconds, and content, of every packet of the first stream of this media type."""
    with av.open(path) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None and bytes(packet) != b"\0\0"
        ]

"""Writes short clips whose frames can be identified, and reads them back."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from sr_edge.camera.media.encoder_settings import scheduling_kept
from sr_edge.camera.media.frame import Colour, ColourRange, PixelFormat, VideoFrame

WIDTH, HEIGHT = 64, 48


def grey(number: int) -> int:
    """The gray level of frame `number`, which differs from its neighbours even after lossy compression."""
    return 20 + 8 * (number % 25)


def flat_frame(number: int, pts: int | None = None, pixel_format: PixelFormat = PixelFormat.I420) -> VideoFrame:
    planes = tuple(
        np.full(layout.shape(HEIGHT, WIDTH), grey(number) if index == 0 else 128, pixel_format.dtype)
        for index, layout in enumerate(pixel_format.layout)
    )
    return VideoFrame(planes, pixel_format, Colour(ColourRange.LIMITED, 1, 1, 1), pts, Fraction(1, 30), sequence=number)


def number_of(frame: VideoFrame) -> int:
    """The number of a frame that `flat_frame` made, up to 24."""
    return round((float(frame.planes[0].mean()) - 20) / 8)


def write_clip(
    path: Path,
    pts: Sequence[int],
    *,
    time_base: Fraction = Fraction(1, 90_000),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    audio_s: float = 0.0,
) -> Path:
    """Writes a video of uniform frames at `pts`, with a tone of `audio_s` seconds."""
    with scheduling_kept(), av.open(path, "w") as container:  # SVT-AV1 makes this process real-time otherwise
        # libx265 gives the first frames of short clips no valid decoding times where it reorders.
        options = {"libx264": {"g": "5"}, "libx265": {"bf": "0", "x265-params": "log-level=error"}}
        video: Any = container.add_stream(codec, rate=30, options=options.get(codec, {}))
        video.width, video.height, video.pix_fmt = *size, pixel_format
        video.codec_context.time_base = video.time_base = time_base
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        audio: Any = container.add_stream("aac", rate=48_000) if audio_s else None
        for number, time in enumerate(pts):
            picture = av.VideoFrame(*size, pixel_format)
            for index, plane in enumerate(picture.planes):
                wide = pixel_format.endswith("10le")
                level = (grey(number) if index == 0 else 128) * (4 if wide else 1)
                np.frombuffer(plane, np.uint16 if wide else np.uint8)[:] = level  # type: ignore[call-overload]
            picture.pts, picture.time_base = time, time_base
            picture.colorspace, picture.color_range = 1, 1
            container.mux(video.encode(picture))
        if audio is not None:
            _write_tone(container, audio, audio_s)
        container.mux(video.encode(None))
    return path


def _write_tone(container: Any, audio: Any, seconds: float) -> None:
    samples = np.sin(np.arange(int(48_000 * seconds)) / 17).astype(np.float32)
    for start in range(0, len(samples), 1024):
        block = np.stack([samples[start : start + 1024]] * 2)
        frame = av.AudioFrame.from_ndarray(block, "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def read_clip(path: Path) -> list[Any]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def times_of(pictures: Sequence[Any]) -> list[Fraction]:
    return [picture.pts * picture.time_base for picture in pictures]

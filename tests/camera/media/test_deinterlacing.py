"""Interlaced video is reported before the work, and deinterlaced without combs, at its own times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.camera.file.job import plan_video, upscale_video
from sr_edge.camera.file.settings import VideoSettings
from sr_edge.camera.media.deinterlacing import Deinterlacer, Interlacing
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.sources.open import SourceOptions, open_source
from sr_edge.errors import UsageError
from tests.expected_errors import raises

FRAMES, WIDTH, HEIGHT, BAR = 8, 128, 64, 24
TIMES = [0, 1, 2, 4, 5, 8, 9, 10]
"""A variable frame rate, in units of 1/25 s."""
X264 = ("in.mp4", "libx264", {"x264-params": "bff=1", "crf": "1"}, "yuv420p")
MPEG2 = ("in.ts", "mpeg2video", {"flags": "+ildct+ilme", "field_order": "bb", "b": "8000000"}, "yuv420p")
BOTTOM_FIRST = (X264, MPEG2)
"""FFmpeg's encoders mark the frames so, unless the frame says otherwise."""
CONTAINER = ("in.mkv", "ffv1", {"field_order": "tt"}, "yuv420p")
UNMARKED: tuple[str, str, dict[str, str], str] = ("in.mkv", "ffv1", {}, "yuv422p")


def bar_position(field: int) -> int:
    """The left edge of a white bar that moves by 6 pixels from field to field."""
    return 2 + 6 * field


def interlaced_clip(folder: Path, clip: tuple[str, str, dict[str, str], str]) -> Path:
    name, codec, options, pixel_format = clip
    with av.open(folder / name, "w") as container:
        video: Any = container.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, pixel_format
        for number in range(FRAMES):
            picture = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
            for index, plane in enumerate(picture.planes):
                samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # type: ignore[call-overload]
                samples[:] = 128 if index else 40
                scale = WIDTH // plane.width
                for row in range(plane.height):
                    left = bar_position(2 * number + (row % 2 ^ (clip in BOTTOM_FIRST))) // scale
                    samples[row, left : left + BAR // scale] = 90 if index else 220
            picture.pts, picture.time_base = TIMES[number], Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return folder / name


def combing(plane: npt.NDArray[Any]) -> float:
    """How much each row differs from the mean of its neighbours, on average: combs alternate from row to row."""
    rows = plane.astype(float)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


def all_frames(path: Path, is_deinterlaced: bool) -> tuple[list[VideoFrame], list[str]]:
    events: list[str] = []
    source = open_source(str(path), SourceOptions(is_deinterlaced=is_deinterlaced, on_event=events.append))
    return list(source.frames()), events


@pytest.mark.parametrize("clip", [X264, MPEG2, CONTAINER, UNMARKED], ids=["h264", "mpeg2", "container", "unmarked"])
def test_streams_are_deinterlaced_at_their_times(tmp_path: Path, clip: tuple[str, str, dict[str, str], str]) -> None:
    path = interlaced_clip(tmp_path, clip)
    before, said_before = all_frames(path, is_deinterlaced=False)
    after, said_after = all_frames(path, is_deinterlaced=True)
    assert [frame.time_s for frame in after] == [frame.time_s for frame in before]
    times = [frame.time_s or 0.0 for frame in after]
    assert [time - times[0] for time in times] == pytest.approx([time / 25 for time in TIMES], abs=2e-3)
    assert [frame.sequence for frame in after] == list(range(FRAMES))
    is_marked = clip is not UNMARKED
    assert any("--deinterlace" in event for event in said_before) == is_marked
    assert any("no frame is marked" in event for event in said_after) != is_marked
    for index in (0, 1):
        combs = max(combing(frame.planes[index]) for frame in before)
        assert combs > 3 if index else combs > 15
        assert max(combing(frame.planes[index]) for frame in after) < 0.2 * combs
    for number, frame in enumerate(after):
        columns = np.flatnonzero(frame.planes[0][HEIGHT // 2] > 130)
        assert columns[0] == pytest.approx(bar_position(2 * number), abs=2)
        assert (columns[-1] - columns[0] + 1) == pytest.approx(BAR, abs=3)


def test_videos_are_deinterlaced_at_their_times(tmp_path: Path) -> None:
    path = interlaced_clip(tmp_path, X264)
    plain = plan_video(path, tmp_path / "plain.mp4", 2)
    assert len(plain.notes) == 1 and "--deinterlace" in plain.notes[0]
    job = plan_video(path, tmp_path / "out.mp4", 2, VideoSettings(is_deinterlaced=True, crf=1))
    assert job.notes == ()
    assert upscale_video(job, BicubicFrameUpscaler(2)).frames == FRAMES
    with av.open(tmp_path / "out.mp4") as container:
        pictures = list(container.decode(video=0))
    assert [picture.time * 25 for picture in pictures] == pytest.approx(TIMES)
    for picture in pictures:
        luma = picture.to_ndarray(format="gray")
        assert not picture.interlaced_frame
        assert combing(luma) < 3


def test_interlaced_frames_after_progressive_ones_are_said(tmp_path: Path) -> None:
    progressive = interlaced_clip(tmp_path, ("first.ts", "mpeg2video", {"b": "8000000"}, "yuv420p"))
    mixed = tmp_path / "mixed.ts"
    mixed.write_bytes(progressive.read_bytes() + interlaced_clip(tmp_path, MPEG2).read_bytes())
    _, events = all_frames(mixed, is_deinterlaced=False)
    assert any("--deinterlace" in event for event in events)
    job = plan_video(mixed, tmp_path / "out.mp4", 2)
    assert job.notes == ()
    result = upscale_video(job, BicubicFrameUpscaler(2))
    assert any("--deinterlace" in note for note in result.notes)


def test_progressive_frames_among_interlaced_ones_are_left_alone() -> None:
    """Mixed recordings mark each frame."""
    deinterlacer = Deinterlacer(Interlacing.FRAMES)
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    finished = []
    for number in range(3):
        picture = av.VideoFrame.from_ndarray(noise, "gray")
        picture.pts, picture.time_base = 7 * number, Fraction(1, 90)
        finished += deinterlacer.push(picture)
    finished += deinterlacer.flush()
    assert [(picture.pts, picture.time_base) for picture in finished] == [(7 * n, Fraction(1, 90)) for n in range(3)]
    assert all(np.array_equal(picture.to_ndarray(), noise) for picture in finished)


@pytest.mark.parametrize("count", [1, 2])
def test_short_sequences_and_changes_of_size_lose_no_frame(count: int) -> None:
    deinterlacer = Deinterlacer(Interlacing.UNDECLARED)
    finished = []
    for number, height in enumerate([HEIGHT] * count + [2 * HEIGHT] * count):
        picture = av.VideoFrame.from_ndarray(np.full((height, WIDTH), 99, np.uint8), "gray")
        picture.pts, picture.time_base = number, Fraction(1, 25)
        finished += deinterlacer.push(picture)
    finished += deinterlacer.flush()
    assert [picture.height for picture in finished] == [HEIGHT] * count + [2 * HEIGHT] * count
    assert [picture.pts for picture in finished] == list(range(2 * count))


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv422", "yuv411p", "rgb24", "p010le", "yuva420p"])
def test_every_format_can_be_deinterlaced(pixel_format: str) -> None:
    deinterlacer = Deinterlacer(Interlacing.TOP_FIRST)
    picture = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), (200, 30, 90), np.uint8), "rgb24")
    picture = picture.reformat(format=pixel_format, dst_colorspace=1, dst_color_range=1)
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    (finished,) = [*deinterlacer.push(picture), *deinterlacer.flush()]
    before, after = (one.to_ndarray(format="rgb24").astype(int) for one in (picture, finished))
    assert np.abs(after - before).max() <= 2


def test_sources_that_ffmpeg_does_not_decode_are_refused(tmp_path: Path) -> None:
    with raises(UsageError, found=str(tmp_path)):
        open_source(str(tmp_path), SourceOptions(is_deinterlaced=True))

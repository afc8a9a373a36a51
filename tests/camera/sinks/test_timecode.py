"""`--timecode`: a recording says when its frames were captured, and keeps their distances."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from sr_edge.camera import SinkOptions, SourceOptions, VideoFrame, open_sink, open_source
from sr_edge.camera.protocols import SourceInfo
from sr_edge.errors import UsageError
from tests.camera.clips import flat_frame, read_clip, times_of, write_clip
from tests.camera.fakes import ListSource
from tests.expected_errors import raises

START = datetime(2026, 12, 31, 23, 59, 58, 250_000, timezone.utc)
UNEVEN = (0, 3600, 7200, 90_000, 180_090)
"""In units of 1/90000 s: a camera that pauses, over midnight."""


def captured_at(start: datetime, times: tuple[int, ...]) -> list[VideoFrame]:
    """Frames whose camera says when it captured each."""
    start_ns = round((start - datetime.fromtimestamp(0, timezone.utc)) / timedelta(microseconds=1)) * 1000
    return [
        replace(
            flat_frame(number, pts=time),
            time_base=Fraction(1, 90_000),
            captured_utc_ns=start_ns + 10**9 * time // 90_000,
        )
        for number, time in enumerate(times)
    ]


def record(path: Path, frames: list[VideoFrame], rate: Fraction | None = Fraction(30)) -> list[str]:
    """Records frames of a live source, and returns the events."""
    events: list[str] = []
    source = ListSource(frames, is_live=True)
    source.info = SourceInfo(rate)
    sink = open_sink(str(path), source, SinkOptions(has_timecode=True, on_event=events.append))
    for frame in frames:
        sink.write(frame)
    sink.close()
    return events


def read_start(path: Path) -> tuple[str | None, datetime]:
    """The first timecode and the time of creation of a file."""
    with av.open(path) as container:
        tags = {name.lower(): value for name, value in container.streams.video[0].metadata.items()}
        return tags.get("timecode"), datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("rate", "timecode"),
    [(Fraction(30), "23:59:58:07"), (Fraction(30_000, 1001), "23:59:58:07"), (Fraction(12), "23:59:58:03")],
)
def test_the_first_timecode_is_when_the_camera_captured(
    tmp_path: Path, suffix: str, rate: Fraction, timecode: str
) -> None:
    out = tmp_path / f"out{suffix}"
    assert record(out, captured_at(START, UNEVEN), rate) == []
    written, created = read_start(out)
    assert written == timecode
    assert created == (START if suffix == ".mkv" else START.replace(microsecond=0)), "MP4 stores whole seconds"
    distances = [later - earlier for earlier, later in pairwise(times_of(read_clip(out)))]
    wanted = [Fraction(later - earlier, 90_000) for earlier, later in pairwise(UNEVEN)]
    tolerance = Fraction(1, 1000) if suffix == ".mkv" else 0
    assert all(abs(distance - want) <= tolerance for distance, want in zip(distances, wanted, strict=True))


def test_the_start_of_a_file_whose_first_frames_were_dropped(tmp_path: Path) -> None:
    """The file starts at the time stamp 0, so that each frame was captured at the start plus its time."""
    record(tmp_path / "out.mkv", captured_at(START, UNEVEN)[3:])
    assert read_start(tmp_path / "out.mkv") == ("23:59:58:07", START)


def test_a_rate_that_no_timecode_counts_leaves_the_time_of_creation(tmp_path: Path) -> None:
    events = record(tmp_path / "out.mkv", captured_at(START, UNEVEN), Fraction(240))
    assert read_start(tmp_path / "out.mkv") == (None, START)
    assert len(events) == 1


def test_without_the_cameras_clock_it_is_when_the_frame_arrived(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", range(0, 9000, 3000))
    source = open_source(str(clip), SourceOptions(is_paced=True))
    before = datetime.now(timezone.utc)
    sink = open_sink(str(tmp_path / "out.mkv"), source, SinkOptions(has_timecode=True))
    for frame in source.frames():
        sink.write(frame)
    after = datetime.now(timezone.utc)
    sink.close()
    _, created = read_start(tmp_path / "out.mkv")
    assert before - timedelta(milliseconds=1) <= created <= after


@pytest.mark.parametrize(
    "sink", ["out.ts", "out.avi", "out.m4v", "null", "-", "udp://127.0.0.1:9", "rtsp://127.0.0.1:1/x"]
)
def test_a_sink_that_stores_no_timecode_is_refused(tmp_path: Path, sink: str) -> None:
    text = str(tmp_path / sink) if sink.startswith("out") else sink
    with raises(UsageError, wanted=(".mp4", ".mov", ".mkv")):
        open_sink(text, ListSource([], is_live=True), SinkOptions(has_timecode=True))
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_live_has_no_time_of_capture(tmp_path: Path) -> None:
    with raises(UsageError, found="a list"):
        open_sink(str(tmp_path / "out.mp4"), ListSource([]), SinkOptions(has_timecode=True))

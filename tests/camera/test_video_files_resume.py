"""An interrupted run is gone on with, and ends in the same bytes as one that was not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sr_edge
from sr_edge.camera.enlarger import BicubicFrameUpscaler
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.video_file import VideoResult, frames_kept, plan_video, upscale_video
from sr_edge.camera.video_file_settings import FrameRange, VideoCodec, VideoSettings
from sr_edge.errors import EngineError, FrameError, StreamError, UsageError
from tests.camera.films import UNEVEN, Film, numbers_of, pts_of, shoot
from tests.expected_errors import raises

SEGMENT = 4
LONG = Film(range(0, 30 * 3000, 3000), audio="aac", subtitles=[(100, 300, "one"), (700, 100, "two")])
KILLED_WHERE_A_FILE_GROWS = -signal.SIGXFSZ
ROOT = Path(sr_edge.__file__).resolve().parents[1]

KILLING = """
import os, resource, signal, sys
from pathlib import Path
from sr_edge.camera.enlarger import BicubicFrameUpscaler
from sr_edge.camera.video_file import plan_video, upscale_video
from sr_edge.camera.video_file_settings import VideoCodec, VideoSettings

source, target, codec, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
counts = []

def die_when(done, total):
    counts.append(done)
    if where == str(done):
        os.kill(os.getpid(), signal.SIGKILL)
    if where == "mux" and counts.count(total) == 2:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

settings = VideoSettings(VideoCodec(codec))
upscale_video(plan_video(source, target, 2, settings), BicubicFrameUpscaler(2), die_when, segment_frames=4)
"""
"""Kills itself after so many frames, or in the middle of the file that the parts become, as that grows too large."""


class Failing(BicubicFrameUpscaler):
    """Fails at frame `at`, and counts what it is given: first of all frame 0, to compare with an interrupted run."""

    def __init__(self, at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__(2, at_once=1)
        self.seen: list[int] = []
        self._at = at
        self._error = error or EngineError("the engine is broken")

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        self.seen.append(prepared.sequence)
        if len(self.seen) > 1 and prepared.sequence == self._at:
            raise self._error
        return super().infer(prepared)


def run(
    source: Path,
    target: Path,
    upscaler: BicubicFrameUpscaler,
    settings: VideoSettings | None = None,
    on_frame: Callable[[int, int], None] | None = None,
    segment_frames: int = SEGMENT,
) -> VideoResult:
    return upscale_video(plan_video(source, target, 2, settings), upscaler, on_frame, segment_frames)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return shoot(tmp_path / "in.mp4", LONG)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> bytes:
    """What a run makes that nothing interrupts."""
    run(source, tmp_path / "whole.mp4", Failing())
    return (tmp_path / "whole.mp4").read_bytes()


def test_a_failed_run_is_gone_on_with_to_the_same_bytes(source: Path, tmp_path: Path, whole: bytes) -> None:
    target = tmp_path / "out.mp4"
    error = EngineError("the engine is broken")
    with raises(EngineError) as caught:
        run(source, target, Failing(at=13, error=error))
    assert caught.value is error
    assert not target.exists()
    assert frames_kept(target) == 12
    second = Failing()
    result = run(source, target, second)
    assert second.seen[1:] == list(range(12, 30))
    assert (result.frames, result.resumed) == (30, 12)
    assert target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "whole.mp4", "out.mp4"}


@pytest.mark.parametrize(("where", "kept"), [("2", 0), ("5", 4), ("17", 16), ("30", 28), ("mux", 30)])
def test_a_killed_run_is_gone_on_with_to_the_same_bytes(
    source: Path, tmp_path: Path, whole: bytes, where: str, kept: int
) -> None:
    target = tmp_path / "out.mp4"
    paths = (str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [sys.executable, "-c", KILLING, str(source), str(target), "h264", where]
    killed_by = KILLED_WHERE_A_FILE_GROWS if where == "mux" else -signal.SIGKILL
    assert subprocess.run(arguments, env=environment, check=False).returncode == killed_by
    assert not target.exists()
    assert frames_kept(target) == kept
    half_muxed = [path.stat().st_size for path in (tmp_path / "out.mp4.segments").glob(".muxed.mp4.*.part")]
    assert half_muxed == ([4000] if where == "mux" else [])
    assert run(source, target, Failing()).resumed == kept
    assert target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "whole.mp4", "out.mp4"}


@pytest.mark.parametrize("codec", [VideoCodec.H265, VideoCodec.VP9])
def test_parts_of_every_codec_fit_together(tmp_path: Path, codec: VideoCodec) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN))
    settings = VideoSettings(codec)
    run(source, tmp_path / "whole.mp4", Failing(), settings)
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=9), settings)
    run(source, tmp_path / "out.mp4", Failing(), settings)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "out.mp4") == list(range(len(UNEVEN)))


def test_one_long_part_and_many_show_the_same(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "many.mp4", Failing())
    run(source, tmp_path / "one.mp4", Failing(), segment_frames=100)
    assert pts_of(tmp_path / "many.mp4") == pts_of(tmp_path / "one.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "many.mp4") == numbers_of(tmp_path / "one.mp4")


def test_a_range_is_gone_on_with(source: Path, tmp_path: Path) -> None:
    settings = VideoSettings(frames=FrameRange(10, 22))
    run(source, tmp_path / "whole.mp4", Failing(), settings)
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=9), settings)
    second = Failing()
    assert run(source, tmp_path / "out.mp4", second, settings).resumed == 8
    assert second.seen[1:] == [8, 9, 10, 11]
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_ctrl_c_keeps_the_finished_parts_and_nothing_half_written(source: Path, tmp_path: Path) -> None:
    def press(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        run(source, target, BicubicFrameUpscaler(2), on_frame=press)
    assert frames_kept(target) == 8
    assert sorted(path.name for path in (tmp_path / "out.mp4.segments").iterdir()) == [
        "000000.json",
        "000000.mp4",
        "000001.json",
        "000001.mp4",
        "fingerprint.json",
        "lock",
    ]


def test_without_a_finished_part_nothing_stays(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=2))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (VideoSettings(crf=30), "the encoder"),
        (VideoSettings(VideoCodec.H265), "the encoder"),
        (VideoSettings(frames=FrameRange(0, 20)), "--frames"),
    ],
)
def test_parts_of_other_settings_are_not_mixed_in(
    source: Path, tmp_path: Path, settings: VideoSettings, named: str
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(EngineError):
        run(source, target, Failing(at=13))
    with pytest.raises(UsageError) as caught:
        run(source, target, Failing(), settings)
    assert names_in(caught.value) == ([named], [named])
    assert "--no-resume" in str(caught.value.remedy)
    assert frames_kept(target) == 12


def names_in(error: UsageError) -> tuple[list[str], list[str]]:
    """What differs from the interrupted run: by its names now, and then."""
    assert isinstance(error.found, dict) and isinstance(error.wanted, dict)
    return list(error.found), list(error.wanted)


def test_parts_of_another_length_are_not_mixed_in(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    with raises(UsageError, found={"the segment length": "5 frames"}, wanted={"the segment length": "4 frames"}):
        run(source, tmp_path / "out.mp4", Failing(), segment_frames=5)


def test_another_model_is_noticed(source: Path, tmp_path: Path) -> None:
    class Other(BicubicFrameUpscaler):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            large = super().infer(prepared)
            return large.with_planes(tuple(np.invert(plane) for plane in large.planes))

    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    with pytest.raises(UsageError) as caught:
        run(source, tmp_path / "out.mp4", Other(2))
    assert names_in(caught.value) == (["the model's output"], ["the model's output"])


def test_another_video_of_the_same_name_is_noticed(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    shoot(source, Film(range(0, 30 * 3600, 3600)))
    with pytest.raises(UsageError) as caught:
        run(source, tmp_path / "out.mp4", Failing())
    assert names_in(caught.value) == (["the video"], ["the video"])


def test_frames_that_come_otherwise_than_before_are_noticed(source: Path, tmp_path: Path) -> None:
    """As another version of the decoder might give them."""
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    record = tmp_path / "out.mp4.segments" / "000002.json"
    segment = json.loads(record.read_text())
    assert segment["pts"] == [24_000, 27_000, 30_000, 33_000]
    record.write_text(json.dumps({**segment, "pts": [24_000, 27_000, 30_001, 33_000]}))
    with raises(FrameError, found=30_000, wanted=30_001):
        run(source, tmp_path / "out.mp4", Failing())


def test_no_resume_begins_again(source: Path, tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13), VideoSettings(crf=30))
    second = Failing()
    result = run(source, tmp_path / "out.mp4", second, VideoSettings(resume=False))
    assert result.resumed == 0
    assert second.seen[1:] == list(range(30))
    assert (tmp_path / "out.mp4").read_bytes() == whole


def test_two_processes_do_not_make_one_file(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.segments"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with raises(UsageError, found=tmp_path / "out.mp4"):
            run(source, tmp_path / "out.mp4", Failing())


def test_a_folder_that_is_not_ours_is_left_alone(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.segments"
    folder.mkdir()
    (folder / "holiday.txt").write_text("mine")
    with raises(UsageError, found=folder):
        run(source, tmp_path / "out.mp4", Failing())
    assert (folder / "holiday.txt").read_text() == "mine"


def test_an_earlier_result_stays_until_the_new_one_is_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"before")
    with pytest.raises(EngineError):
        run(source, target, Failing(at=13))
    assert target.read_bytes() == b"before"
    run(source, target, Failing())
    assert pts_of(target) == pts_of(source)


def test_a_join_that_fails_leaves_the_parts(source: Path, tmp_path: Path, whole: bytes) -> None:
    counts: list[int] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit_the_muxed_file(done: int, total: int) -> None:
        counts.append(done)
        if counts.count(total) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))

    try:
        with pytest.raises(StreamError) as caught:
            run(source, tmp_path / "out.mp4", Failing(), on_frame=limit_the_muxed_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"out.mp4: {os.strerror(errno.EFBIG)}" in caught.value.problem
    assert not (tmp_path / "out.mp4").exists()
    assert not list((tmp_path / "out.mp4.segments").glob("*muxed*"))
    second = Failing()
    assert run(source, tmp_path / "out.mp4", second).resumed == 30
    assert second.seen[1:] == []
    assert (tmp_path / "out.mp4").read_bytes() == whole

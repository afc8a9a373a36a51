"""An interrupted run is gone on with, and ends in the same bytes as one that was not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sr_edge.camera import video_file, video_file_join, video_file_parts
from sr_edge.camera.enlarger import BicubicEnlarger
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.video_file import VideoResult, frames_kept, plan_video, upscale_video
from sr_edge.camera.video_file_settings import FrameRange, VideoCodec, VideoSettings
from sr_edge.errors import EngineError, FrameError, StreamError, UsageError
from tests.camera.films import UNEVEN, Film, numbers_of, pts_of, shoot

PART = 4
LONG = Film(range(0, 30 * 3000, 3000), audio="aac", subtitles=[(100, 300, "one"), (700, 100, "two")])
KILLED = -9
ROOT = Path(__file__).resolve().parents[2]

KILLING = """
import os, signal, sys
from pathlib import Path
from sr_edge.camera import video_file, video_file_join, video_file_parts
from sr_edge.camera.enlarger import BicubicEnlarger
from sr_edge.camera.video_file import plan_video, upscale_video
from sr_edge.camera.video_file_settings import VideoCodec, VideoSettings

source, target, codec, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
video_file.PART_FRAMES = video_file_parts.PART_FRAMES = 4

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_when(done, total):
    if where == str(done):
        die()

if where == "join":
    heard = video_file_join._copied_packets
    def half(*arguments):
        for number, packet in enumerate(heard(*arguments)):
            if number == 20:
                die()
            yield packet
    video_file_join._copied_packets = half
settings = VideoSettings(VideoCodec(codec))
upscale_video(plan_video(source, target, 2, settings), BicubicEnlarger(2), die_when)
"""


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (video_file, video_file_parts):
        monkeypatch.setattr(module, "PART_FRAMES", PART)


class Failing(BicubicEnlarger):
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


def run(source: Path, target: Path, enlarger: BicubicEnlarger, settings: VideoSettings | None = None) -> VideoResult:
    return upscale_video(plan_video(source, target, 2, settings), enlarger)


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
    with pytest.raises(EngineError, match="the engine is broken"):
        run(source, target, Failing(at=13))
    assert not target.exists()
    assert frames_kept(target) == 12
    second = Failing()
    result = run(source, target, second)
    assert second.seen[1:] == list(range(12, 30))
    assert (result.frames, result.resumed) == (30, 12)
    assert target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "whole.mp4", "out.mp4"}


@pytest.mark.parametrize(("where", "kept"), [("2", 0), ("5", 4), ("17", 16), ("30", 28), ("join", 30)])
def test_a_killed_run_is_gone_on_with_to_the_same_bytes(
    source: Path, tmp_path: Path, whole: bytes, where: str, kept: int
) -> None:
    target = tmp_path / "out.mp4"
    paths = (str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [sys.executable, "-c", KILLING, str(source), str(target), "h264", where]
    assert subprocess.run(arguments, env=environment, check=False).returncode == KILLED
    assert not target.exists()
    assert frames_kept(target) == kept
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


def test_one_long_part_and_many_show_the_same(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source, tmp_path / "many.mp4", Failing())
    for module in (video_file, video_file_parts):
        monkeypatch.setattr(module, "PART_FRAMES", 100)
    run(source, tmp_path / "one.mp4", Failing())
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
        upscale_video(plan_video(source, target, 2), BicubicEnlarger(2), press)
    assert frames_kept(target) == 8
    assert sorted(path.name for path in (tmp_path / "out.mp4.parts").iterdir()) == [
        "000000.json",
        "000000.mp4",
        "000001.json",
        "000001.mp4",
        "lock",
        "plan.json",
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
    with pytest.raises(UsageError, match=f"was begun with {named} .*; run it as before to go on, or with --no-resume"):
        run(source, target, Failing(), settings)
    assert frames_kept(target) == 12


def test_another_model_is_noticed(source: Path, tmp_path: Path) -> None:
    class Other(BicubicEnlarger):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            large = super().infer(prepared)
            return large.with_planes(tuple(np.invert(plane) for plane in large.planes))

    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    with pytest.raises(UsageError, match="was begun with the model's answer"):
        run(source, tmp_path / "out.mp4", Other(2))


def test_another_video_of_the_same_name_is_noticed(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    shoot(source, Film(range(0, 30 * 3600, 3600)))
    with pytest.raises(UsageError, match="was begun with the video"):
        run(source, tmp_path / "out.mp4", Failing())


def test_frames_that_come_otherwise_than_before_are_noticed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another version of the decoder might give them."""
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", Failing(at=13))
    monkeypatch.setattr(
        video_file_parts.Parts, "pts", property(lambda parts: (*range(0, 30_000, 3000), 30_001, 33_000))
    )
    with pytest.raises(FrameError, match="frame 10 comes at another time than when the work was begun"):
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
    folder = tmp_path / "out.mp4.parts"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another sr-edge is making"):
            run(source, tmp_path / "out.mp4", Failing())


def test_a_folder_that_is_not_ours_is_left_alone(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.parts"
    folder.mkdir()
    (folder / "holiday.txt").write_text("mine")
    with pytest.raises(UsageError, match="is in the way: it is not of an interrupted run"):
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


def test_a_join_that_fails_leaves_the_parts(
    source: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(video_file_join, "_write", full)
        with pytest.raises(StreamError, match=r"out\.mp4: No space left on device; the disk is full; free some space"):
            run(source, tmp_path / "out.mp4", Failing())
    assert not (tmp_path / "out.mp4").exists()
    assert not list((tmp_path / "out.mp4.parts").glob("*joined*"))
    second = Failing()
    assert run(source, tmp_path / "out.mp4", second).resumed == 30
    assert second.seen[1:] == []
    assert (tmp_path / "out.mp4").read_bytes() == whole

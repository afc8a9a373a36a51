"""An interrupted run is resumed, and its file has the same bytes as that of an uninterrupted run."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sr_edge
from sr_edge.camera.file.job import VideoResult, plan_video, upscale_video
from sr_edge.camera.file.segments import frames_kept
from sr_edge.camera.file.settings import FrameRange, VideoCodec, VideoSettings
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler, NetworkFrameUpscaler
from sr_edge.errors import EngineError, FrameError, StreamError, UsageError
from sr_edge.upscaler import ReuseOptions
from tests.camera.fakes import eventually
from tests.camera.films import UNEVEN, Film, numbers_of, pts_of, shoot
from tests.expected_errors import raises
from tests.upscaler.test_reuse import SlottedSession

SEGMENT = 4
LONG = Film(range(0, 30 * 3000, 3000), audio="aac", subtitles=[(100, 300, "one"), (700, 100, "two")])
KILLED_BY_THE_FILE_SIZE_LIMIT = -signal.SIGXFSZ
ROOT = Path(sr_edge.__file__).resolve().parents[1]

SELF_KILLING_PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.file.job import plan_video, upscale_video
from sr_edge.camera.file.settings import VideoCodec, VideoSettings

source, target, codec, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
counts = []

def kill_at(done, total):
    counts.append(done)
    if where == str(done):
        os.kill(os.getpid(), signal.SIGKILL)
    if where == "mux" and counts.count(total) == 2:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

settings = VideoSettings(VideoCodec(codec))
upscale_video(plan_video(source, target, 2, settings), BicubicFrameUpscaler(2), kill_at, segment_frames=4)
"""
"""Kills itself after a number of frames, or during muxing, by a limit of the file size."""


class FailingUpscaler(BicubicFrameUpscaler):
    """Fails at frame `at`, and records the frames that it upscales; the first is frame 0, for the fingerprint."""

    def __init__(self, at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__(2, concurrency=1)
        self.upscaled: list[int] = []
        self._at = at
        self._error = error or EngineError("the engine is broken")

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        self.upscaled.append(prepared.sequence)
        if len(self.upscaled) > 1 and prepared.sequence == self._at:
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
def uninterrupted(source: Path, tmp_path: Path) -> bytes:
    """The file of an uninterrupted run."""
    run(source, tmp_path / "whole.mp4", FailingUpscaler())
    return (tmp_path / "whole.mp4").read_bytes()


def test_a_failed_run_is_resumed_to_the_same_bytes(source: Path, tmp_path: Path, uninterrupted: bytes) -> None:
    target = tmp_path / "out.mp4"
    error = EngineError("the engine is broken")
    with raises(EngineError) as caught:
        run(source, target, FailingUpscaler(at=13, error=error))
    assert caught.value is error
    assert not target.exists()
    assert frames_kept(target) == 12
    second = FailingUpscaler()
    result = run(source, target, second)
    assert second.upscaled[1:] == list(range(12, 30))
    assert (result.frames, result.resumed) == (30, 12)
    assert target.read_bytes() == uninterrupted
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "whole.mp4", "out.mp4"}


@pytest.mark.parametrize(("where", "kept"), [("2", 0), ("5", 4), ("17", 16), ("30", 28), ("mux", 30)])
def test_a_killed_run_is_resumed_to_the_same_bytes(
    source: Path, tmp_path: Path, uninterrupted: bytes, where: str, kept: int
) -> None:
    target = tmp_path / "out.mp4"
    paths = (str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [sys.executable, "-c", SELF_KILLING_PROGRAM, str(source), str(target), "h264", where]
    killed_by = KILLED_BY_THE_FILE_SIZE_LIMIT if where == "mux" else -signal.SIGKILL
    assert subprocess.run(arguments, env=environment, check=False).returncode == killed_by
    assert not target.exists()
    assert frames_kept(target) == kept
    half_muxed = [path.stat().st_size for path in (tmp_path / "out.mp4.segments").glob(".muxed.mp4.*.part")]
    assert half_muxed == ([4000] if where == "mux" else [])
    assert run(source, target, FailingUpscaler()).resumed == kept
    assert target.read_bytes() == uninterrupted
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "whole.mp4", "out.mp4"}


@pytest.mark.parametrize("codec", [VideoCodec.H265, VideoCodec.VP9])
def test_segments_of_every_codec_can_be_muxed(tmp_path: Path, codec: VideoCodec) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN))
    settings = VideoSettings(codec)
    run(source, tmp_path / "whole.mp4", FailingUpscaler(), settings)
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=9), settings)
    run(source, tmp_path / "out.mp4", FailingUpscaler(), settings)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "out.mp4") == list(range(len(UNEVEN)))


def test_the_segment_length_does_not_change_the_frames(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "many.mp4", FailingUpscaler())
    run(source, tmp_path / "one.mp4", FailingUpscaler(), segment_frames=100)
    assert pts_of(tmp_path / "many.mp4") == pts_of(tmp_path / "one.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "many.mp4") == numbers_of(tmp_path / "one.mp4")


def test_a_range_is_resumed(source: Path, tmp_path: Path) -> None:
    settings = VideoSettings(frames=FrameRange(10, 22))
    run(source, tmp_path / "whole.mp4", FailingUpscaler(), settings)
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=9), settings)
    second = FailingUpscaler()
    assert run(source, tmp_path / "out.mp4", second, settings).resumed == 8
    assert second.upscaled[1:] == [8, 9, 10, 11]
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_ctrl_c_keeps_complete_segments_only(source: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        run(source, target, BicubicFrameUpscaler(2), on_frame=interrupt)
    assert frames_kept(target) == 8
    assert sorted(path.name for path in (tmp_path / "out.mp4.segments").iterdir()) == [
        "000000.json",
        "000000.mp4",
        "000001.json",
        "000001.mp4",
        "lock",
        "plan.json",
    ]


def test_without_a_complete_segment_the_folder_is_removed(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=2))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        (VideoSettings(crf=30), "the encoder"),
        (VideoSettings(VideoCodec.H265), "the encoder"),
        (VideoSettings(frames=FrameRange(0, 20)), "--frames"),
    ],
)
def test_segments_of_other_settings_are_refused(
    source: Path, tmp_path: Path, settings: VideoSettings, difference: str
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(EngineError):
        run(source, target, FailingUpscaler(at=13))
    with pytest.raises(UsageError) as caught:
        run(source, target, FailingUpscaler(), settings)
    assert differences_in(caught.value) == ([difference], [difference])
    assert "--no-resume" in str(caught.value.remedy)
    assert frames_kept(target) == 12


def differences_in(error: UsageError) -> tuple[list[str], list[str]]:
    """The names of what differs between this run and the interrupted one."""
    assert isinstance(error.found, dict) and isinstance(error.wanted, dict)
    return list(error.found), list(error.wanted)


def test_segments_of_another_length_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=13))
    with raises(UsageError, found={"the segment length": "5 frames"}, wanted={"the segment length": "4 frames"}):
        run(source, tmp_path / "out.mp4", FailingUpscaler(), segment_frames=5)


def test_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    class Other(BicubicFrameUpscaler):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            large = super().infer(prepared)
            return large.with_planes(tuple(np.invert(plane) for plane in large.planes))

    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=13))
    with pytest.raises(UsageError) as caught:
        run(source, tmp_path / "out.mp4", Other(2))
    assert differences_in(caught.value) == (["the model's output"], ["the model's output"])


def test_a_bound_for_reuse_is_part_of_the_plan(source: Path, tmp_path: Path) -> None:
    upscaler = FailingUpscaler(at=13)
    upscaler.reuse = ReuseOptions.parse(0.05)
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", upscaler)
    with raises(UsageError, found={"--reuse": "exact"}, wanted={"--reuse": "0.05 dB, refreshed every 10 s"}):
        run(source, tmp_path / "out.mp4", FailingUpscaler())


def test_exact_reuse_resumes_what_was_computed_in_full(source: Path, tmp_path: Path) -> None:
    """Segments with and without reuse have the same frames, so either run may complete the other's."""

    class Failing(SlottedSession):
        left = 10**9

        def submit(self, frames: Any, controls: Any = None) -> int:
            self.left -= 1
            if self.left < 0:
                # The encoder may be slower than the engine: only then is there something to resume.
                eventually(lambda: frames_kept(tmp_path / "out.mp4") > 0)
                raise EngineError("the engine is broken")
            return super().submit(frames, controls)

    def result(target: Path, reuse: str, left: int = 10**9) -> bytes:
        session = Failing()
        session.left = left
        job = plan_video(source, target, 2)
        upscale_video(job, NetworkFrameUpscaler(session, 3, reuse=reuse), segment_frames=SEGMENT)
        return target.read_bytes()

    expected = result(tmp_path / "whole.mp4", "off")
    with pytest.raises(EngineError):
        result(tmp_path / "out.mp4", "off", left=150)
    assert frames_kept(tmp_path / "out.mp4") > 0
    assert result(tmp_path / "out.mp4", "exact") == expected


def test_another_video_of_the_same_name_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=13))
    shoot(source, Film(range(0, 30 * 3600, 3600)))
    with pytest.raises(UsageError) as caught:
        run(source, tmp_path / "out.mp4", FailingUpscaler())
    assert differences_in(caught.value) == (["the video"], ["the video"])


def test_other_timestamps_than_before_are_refused(source: Path, tmp_path: Path) -> None:
    """Another version of the decoder might return them."""
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=13))
    record = tmp_path / "out.mp4.segments" / "000002.json"
    segment = json.loads(record.read_text())["content"]
    assert segment["pts"] == [24_000, 27_000, 30_000, 33_000]
    changed = {**segment, "pts": [24_000, 27_000, 30_001, 33_000]}
    digest = hashlib.sha256(json.dumps(changed).encode()).hexdigest()
    record.write_text(json.dumps({"content": changed, "sha256": digest}))
    with raises(FrameError, found=30_000, wanted=30_001):
        run(source, tmp_path / "out.mp4", FailingUpscaler())


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_for_other_json(path: Path) -> None:
    path.write_text('{"pts": "none", "layout": 2, "fingerprint": [], "frames": null}')


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("000001.mp4", Path.unlink),
        ("000001.mp4", empty),
        ("000001.mp4", flip_a_bit),
        ("000001.json", Path.unlink),
        ("000001.json", cut_in_half),
        ("000001.json", flip_a_bit),
        ("000001.json", swap_for_other_json),
    ],
)
def test_a_damaged_segment_is_made_anew(
    source: Path, tmp_path: Path, uninterrupted: bytes, name: str, damage: Callable[[Path], None]
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(EngineError):
        run(source, target, FailingUpscaler(at=13))
    damage(tmp_path / "out.mp4.segments" / name)
    second, events = FailingUpscaler(), list[str]()
    job = plan_video(source, target, 2)
    result = upscale_video(job, second, segment_frames=SEGMENT, on_event=events.append)
    is_absent_record = damage is Path.unlink and name.endswith(".json")
    assert [str(tmp_path / "out.mp4.segments" / name) in event for event in events] == [True] * (not is_absent_record)
    assert second.upscaled[1:] == [*range(4, 8), *range(12, 30)]
    assert (result.frames, result.resumed) == (30, 8)
    assert target.read_bytes() == uninterrupted


@pytest.mark.parametrize(
    ("name", "damage", "kept"),
    [
        ("summary.json", Path.unlink, 30),
        ("summary.json", empty, 30),
        ("summary.json", flip_a_bit, 30),
        ("plan.json", Path.unlink, 0),
        ("plan.json", cut_in_half, 0),
        ("plan.json", swap_for_other_json, 0),
    ],
)
def test_a_damaged_plan_or_summary_is_made_anew(
    source: Path, tmp_path: Path, uninterrupted: bytes, name: str, kept: int, damage: Callable[[Path], None]
) -> None:
    target = tmp_path / "out.mp4"
    interrupted_in_mux(source, target)
    assert frames_kept(target) == 30
    damage(tmp_path / "out.mp4.segments" / name)
    second, events = FailingUpscaler(), list[str]()
    result = upscale_video(plan_video(source, target, 2), second, segment_frames=SEGMENT, on_event=events.append)
    is_silent = damage is Path.unlink and name == "summary.json"  # an interruption may come before it is written
    assert [str(tmp_path / "out.mp4.segments" / name) in event for event in events] == [True] * (not is_silent)
    assert (result.frames, result.resumed, len(second.upscaled) - 1) == (30, kept, 30 - kept)
    assert target.read_bytes() == uninterrupted


def interrupted_in_mux(source: Path, target: Path) -> None:
    """Leaves all segments and the summary, as a run that was interrupted while it muxed them."""
    counts: list[int] = []

    def interrupt(done: int, total: int) -> None:
        counts.append(done)
        if counts.count(total) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, FailingUpscaler(), on_frame=interrupt)


def test_the_work_of_another_version_is_not_used(source: Path, tmp_path: Path, uninterrupted: bytes) -> None:
    """The first version had a plan of another name, and no digests."""
    target, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.segments"
    with pytest.raises(EngineError):
        run(source, target, FailingUpscaler(at=13))
    (folder / "plan.json").rename(folder / "fingerprint.json")
    (folder / "lock").unlink()
    events: list[str] = []
    upscale_video(plan_video(source, target, 2), FailingUpscaler(), segment_frames=SEGMENT, on_event=events.append)
    assert len(events) == 1 and "another version" in events[0] and str(folder) in events[0]
    assert target.read_bytes() == uninterrupted


def test_an_empty_folder_is_used(source: Path, tmp_path: Path) -> None:
    """A run that was killed after it had created the folder leaves one without any file."""
    (tmp_path / "out.mp4.segments").mkdir()
    run(source, tmp_path / "out.mp4", FailingUpscaler())
    assert not (tmp_path / "out.mp4.segments").exists()


def test_files_are_on_the_disk_before_they_get_their_names(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure, what has a name must have its content, and what comes later must not exist alone."""
    calls: list[tuple[str, str]] = []
    sync, rename = os.fsync, Path.replace

    def recorded_sync(descriptor: int) -> None:
        calls.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        sync(descriptor)

    def recorded_rename(path: Path, target: Path) -> Path:
        assert calls[-1] == ("sync", str(path)) or path.name.startswith("muxed")
        calls.append(("rename", str(target)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "replace", recorded_rename)
    run(source, tmp_path / "out.mp4", FailingUpscaler(), segment_frames=30)
    folder = tmp_path / "out.mp4.segments"
    names = ["plan.json", "000000.mp4", "000000.json", "summary.json", "muxed.mp4"]
    assert [Path(name).name for call, name in calls if call == "rename"] == [*names, "out.mp4"]
    synced_after = [calls[index + 1] for index, (call, _) in enumerate(calls) if call == "rename"]
    assert synced_after == [("sync", str(folder))] * len(names) + [("sync", str(tmp_path))]


def test_errors_while_muxing_name_the_file_that_cannot_be_read(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def damage_the_first_segment(done: int, total: int) -> None:
        if done == total == 30:
            empty(tmp_path / "out.mp4.segments" / "000000.mp4")

    with pytest.raises(StreamError) as caught:
        run(source, target, FailingUpscaler(), on_frame=damage_the_first_segment)
    assert caught.value.problem.startswith(str(tmp_path / "out.mp4.segments" / "000000.mp4"))
    assert run(source, target, FailingUpscaler()).resumed == 26


def test_no_resume_starts_again(source: Path, tmp_path: Path, uninterrupted: bytes) -> None:
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.mp4", FailingUpscaler(at=13), VideoSettings(crf=30))
    second = FailingUpscaler()
    result = run(source, tmp_path / "out.mp4", second, VideoSettings(resume=False))
    assert result.resumed == 0
    assert second.upscaled[1:] == list(range(30))
    assert (tmp_path / "out.mp4").read_bytes() == uninterrupted


def test_a_second_process_is_refused(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.segments"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with raises(UsageError, found=tmp_path / "out.mp4"):
            run(source, tmp_path / "out.mp4", FailingUpscaler())


def test_a_folder_of_another_program_is_kept(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.mp4.segments"
    folder.mkdir()
    (folder / "holiday.txt").write_text("mine")
    with raises(UsageError, found=folder):
        run(source, tmp_path / "out.mp4", FailingUpscaler())
    assert (folder / "holiday.txt").read_text() == "mine"


def test_an_existing_file_is_kept_until_the_new_one_is_complete(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"before")
    with pytest.raises(EngineError):
        run(source, target, FailingUpscaler(at=13))
    assert target.read_bytes() == b"before"
    run(source, target, FailingUpscaler())
    assert pts_of(target) == pts_of(source)


def test_failed_muxing_keeps_the_segments(source: Path, tmp_path: Path, uninterrupted: bytes) -> None:
    counts: list[int] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit_the_muxed_file(done: int, total: int) -> None:
        counts.append(done)
        if counts.count(total) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))

    try:
        with pytest.raises(StreamError) as caught:
            run(source, tmp_path / "out.mp4", FailingUpscaler(), on_frame=limit_the_muxed_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"out.mp4: {os.strerror(errno.EFBIG)}" in caught.value.problem
    assert not (tmp_path / "out.mp4").exists()
    assert not list((tmp_path / "out.mp4.segments").glob("*muxed*"))
    second = FailingUpscaler()
    assert run(source, tmp_path / "out.mp4", second).resumed == 30
    assert second.upscaled[1:] == []
    assert (tmp_path / "out.mp4").read_bytes() == uninterrupted

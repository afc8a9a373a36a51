"""A video that is upscaled in parts equals byte for byte the one that is upscaled in one piece."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import sr_edge
from sr_edge.camera.file.frame_index import FrameIndex, index_frames
from sr_edge.camera.file.job import VideoJob, VideoResult, plan_video, upscale_video
from sr_edge.camera.file.parts import PartSummary, join_parts, split_range, upscale_video_part
from sr_edge.camera.file.probe import probe_video
from sr_edge.camera.file.segment_encoder import machine_options
from sr_edge.camera.file.settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
from sr_edge.camera.media.encoder_settings import scheduling_kept
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.errors import EngineError, InexactSeek, NotSeekable, PartsMissing, UsageError
from sr_edge.upscaler import ReuseOptions
from tests.camera.damage import copy_changed, halved
from tests.camera.films import Film, shoot
from tests.expected_errors import raises

ROOT = Path(sr_edge.__file__).resolve().parents[1]
SEGMENT = 6
PART = 12
CLOCK = Fraction(1, 90_000)
H264 = {"g": "10", "bf": "3", "sc_threshold": "0"}
H264_OPEN = {"g": "10", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
H264_REFRESH = {"g": "10", "x264-params": "intra-refresh=1:scenecut=0"}
UNEVEN = tuple(3600 * n + n * n % 7 * 500 + (n > 20) * 90_000 for n in range(50))
QUIET = "log-level=none"


@dataclass(frozen=True)
class Clip:
    """Noise that drifts across the picture, so that each frame refers to others and none is like another.

    Attributes:
        name: Of the file; the suffix selects the container.
        codec: FFmpeg's name of the encoder.
        options: Of the encoder.
        form: The pixel format.
        pts: Timestamps in units of 1/90000 s; empty for 25 frames per second.
        frames: Number of frames, if there are no `pts`.
        key_frames: Number of frames at which decoding can start; None if the encoder decides.
    """

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    form: str = "yuv420p"
    pts: Sequence[int] = ()
    frames: int = 50
    key_frames: int | None = None


def write(path: Path, clip: Clip) -> Path:
    noise = np.random.default_rng(7).integers(0, 256, (96, 256), np.uint8)
    pts = clip.pts or range(0, 3600 * clip.frames, 3600)
    clock = {"video_track_timescale": "90000"} if path.suffix in (".mp4", ".mov") else {}
    with scheduling_kept(), av.open(path, "w", options=clock) as out:  # SVT-AV1 makes this process real-time otherwise
        video: Any = out.add_stream(clip.codec, rate=25, options=clip.options)
        video.width, video.height, video.pix_fmt = 64, 48, clip.form
        video.codec_context.time_base = Fraction(1, 25) if clip.codec == "mpeg2video" else CLOCK
        for number, time in enumerate(pts):
            x, y = number * 5 % 190, number * 3 % 47
            picture = av.VideoFrame.from_ndarray(noise[y : y + 48, x : x + 64], "gray").reformat(format=clip.form)
            picture.pts, picture.time_base = time, CLOCK
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
    return path


CLIPS = {
    "H.264, closed GOP": Clip("in.mp4", "libx264", H264, key_frames=5),
    "H.264, open GOP": Clip("in.mp4", "libx264", H264_OPEN, key_frames=5),
    "H.264, open GOP, MPEG-TS": Clip("in.ts", "libx264", H264_OPEN, key_frames=5),
    "H.264, intra refresh": Clip("in.mkv", "libx264", H264_REFRESH, key_frames=1),
    "H.265, closed GOP": Clip(
        "in.mkv", "libx265", {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3:open-gop=0"}, key_frames=5
    ),
    "H.265, open GOP, 10 bits": Clip(
        "in.mkv",
        "libx265",
        {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3:open-gop=1:scenecut=0"},
        "yuv420p10le",
        key_frames=5,
    ),
    "H.265, decodable frames before a key frame": Clip(
        "in.mkv", "libx265", {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3:open-gop=0:radl=2:scenecut=0"}
    ),
    "VP9 with hidden frames": Clip(
        "in.webm", "libvpx-vp9", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}, key_frames=5
    ),
    "AV1": Clip("in.mp4", "libsvtav1", {"g": "10", "preset": "12"}, key_frames=5),
    "MPEG-2, open GOP": Clip("in.ts", "mpeg2video", {"g": "10", "bf": "2", "sc_threshold": "1000000000"}, key_frames=6),
    "MJPEG": Clip("in.mov", "mjpeg", form="yuvj420p", key_frames=50),
    "FFV1": Clip("in.mkv", "ffv1", {"g": "10"}, key_frames=5),
    "variable frame rate": Clip(
        "in.mp4",
        "libx264",
        {"g": "10", "bf": "2"},
        pts=[3600 * n + n * n % 7 * 500 + (n > 20) * 90_000 for n in range(50)],
    ),
}


def in_parts(
    job: VideoJob,
    folder: Path,
    parts: Sequence[FrameRange] | None = None,
    settings_segment: int = SEGMENT,
) -> VideoResult:
    """Upscales the parts from the last to the first; each one gets values that travelled as bytes."""
    index = index_frames(job.probe)
    parts = parts or split_range(index, job.settings.frames, PART, settings_segment)
    summaries = []
    for part in parts[::-1]:
        sent_job, sent_index = pickle.loads(pickle.dumps((job, index)))
        summary = upscale_video_part(
            sent_job, BicubicFrameUpscaler(2), sent_index, part, folder, segment_frames=settings_segment
        )
        summaries.append(pickle.loads(pickle.dumps(summary)))
    return join_parts(job, folder, summaries, settings_segment)


def whole(job: VideoJob, target: Path) -> VideoResult:
    return upscale_video(job.at(job.probe.path, target), BicubicFrameUpscaler(2), segment_frames=SEGMENT)


def require_equal(source: Path, tmp_path: Path, settings: VideoSettings | None = None, suffix: str = ".mkv") -> None:
    job = plan_video(source, tmp_path / f"parts{suffix}", 2, settings)
    expected = whole(job, tmp_path / f"whole{suffix}")
    result = in_parts(job, tmp_path / "segments")
    assert (tmp_path / f"parts{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert replace(result, target=expected.target) == expected


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_parts_equal_the_whole(tmp_path: Path, clip: Clip) -> None:
    source = write(tmp_path / clip.name, clip)
    index = index_frames(probe_video(source))
    assert len(index.pts) == 50
    assert clip.key_frames in (None, len(index.key_frames))
    require_equal(source, tmp_path)


@pytest.mark.parametrize("name", ["H.264, open GOP", "H.265, open GOP, 10 bits", "MPEG-2, open GOP"])
def test_open_groups_begin_with_frames_that_refer_to_the_group_before(tmp_path: Path, name: str) -> None:
    """Otherwise the test of open groups of pictures would test closed ones."""
    source = write(tmp_path / CLIPS[name].name, CLIPS[name])
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [position for position, packet in enumerate(packets) if packet.is_keyframe and position]
    leading = [packets[position + 1].pts < packets[position].pts for position in keys[:-1]]
    assert any(leading)


@pytest.mark.parametrize("frames", ["7:40", "13:", ":24", "0:500", "49:"])
def test_parts_of_a_range_equal_the_whole(tmp_path: Path, frames: str) -> None:
    pts = range(9000, 9000 + 50 * 3600, 3600)
    source = shoot(tmp_path / "in.mp4", Film(pts, audio="aac", subtitles=[(100, 300, "one"), (900, 500, "two")]))
    require_equal(source, tmp_path, VideoSettings(frames=FrameRange.parse(frames)), ".mp4")


def test_the_last_frame_of_a_range_lasts_until_the_next_one(tmp_path: Path) -> None:
    """Frame 20 is displayed for more than a second, although the stream says 1/25 s."""
    source = write(tmp_path / "in.mkv", replace(CLIPS["MJPEG"], pts=UNEVEN))
    require_equal(source, tmp_path, VideoSettings(frames=FrameRange(0, 21)))


def test_a_part_knows_what_its_frames_declare(tmp_path: Path) -> None:
    source = write(tmp_path / "in.ts", CLIPS["MPEG-2, open GOP"])
    job = plan_video(source, tmp_path / "out.mkv", 2)
    index, folder = index_frames(job.probe), tmp_path / "segments"
    declared = [upscale_part(job, index, part, folder).read.declared for part in (FrameRange(12, 24), FrameRange(36))]
    assert declared == [("pan and scan", "timecodes of the frames")] * 2


@pytest.mark.parametrize("codec", [VideoCodec.VP9, VideoCodec.AV1, "mpeg4"])
def test_parts_of_every_encoder_equal_the_whole(tmp_path: Path, codec: VideoCodec | str) -> None:
    source = write(tmp_path / "in.mkv", replace(CLIPS["H.264, open GOP"], frames=30))
    settings = VideoSettings(codec, copied_streams=StreamSelection.NONE)
    require_equal(source, tmp_path, settings)


PART_PROGRAM = """
import pickle, sys
from pathlib import Path
from sr_edge.camera.file.parts import upscale_video_part
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler

job, index, part, folder = pickle.loads(Path(sys.argv[1]).read_bytes())
summary = upscale_video_part(job, BicubicFrameUpscaler(2), index, part, folder)
Path(sys.argv[1]).write_bytes(pickle.dumps(summary))
"""


def test_parts_of_other_processes_and_folders_equal_the_whole(tmp_path: Path) -> None:
    """Each process has a copy of the source under another name, as a worker that has fetched it."""
    source = write(tmp_path / "in.mp4", Clip("in.mp4", "libx264", {"g": "250", "bf": "3"}, frames=1300))
    job = plan_video(source, tmp_path / "parts.mp4", 2)
    index, folder = index_frames(job.probe), tmp_path / "segments"
    parts = split_range(index)
    assert parts == (FrameRange(0, 600), FrameRange(600, 1300))
    tasks, processes = [tmp_path / "second", tmp_path / "first"], []
    for task, part in zip(tasks, parts[::-1], strict=True):
        task.mkdir()
        local = job.at(Path(shutil.copy(source, task / "copy.mp4")), task / "out.mp4")
        (task / "task").write_bytes(pickle.dumps((local, index, part, folder)))
        command = [sys.executable, "-c", PART_PROGRAM, str(task / "task")]
        paths = (str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        processes.append(subprocess.Popen(command, env=environment))
    upscale_video(job.at(source, tmp_path / "whole.mp4"), BicubicFrameUpscaler(2))
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    result = join_parts(job, folder, [pickle.loads((task / "task").read_bytes()) for task in tasks])
    assert (result.frames, result.source, result.target) == (1300, source, tmp_path / "parts.mp4")
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("name", ["H.264, closed GOP", "H.264, open GOP, MPEG-TS", "MJPEG", "FFV1"])
def test_damage_in_a_part_is_an_error_of_that_part(tmp_path: Path, name: str) -> None:
    clip = CLIPS[name]
    source = copy_changed(
        write(tmp_path / clip.name, clip), tmp_path / f"damaged{Path(clip.name).suffix}", halved(26, 27)
    )
    job = plan_video(source, tmp_path / "out.mkv", 2)
    index = index_frames(job.probe)
    upscale_part(job, index, FrameRange(0, 12), tmp_path / "segments")
    with pytest.raises(InexactSeek):
        upscale_part(job, index, FrameRange(18, 36), tmp_path / "segments")
    upscale_part(job, index, FrameRange(42, 50), tmp_path / "segments")
    assert whole(job, tmp_path / "whole.mkv").frames < 50


@pytest.mark.parametrize("name", ["H.265, closed GOP", "VP9 with hidden frames", "MPEG-2, open GOP"])
def test_damage_that_is_no_error_gives_the_same_frames(tmp_path: Path, name: str) -> None:
    """Some decoders conceal damage without saying so; the parts must then contain what the whole contains."""
    clip = CLIPS[name]
    source = copy_changed(write(tmp_path / clip.name, clip), tmp_path / f"damaged{Path(clip.name).suffix}", halved(26))
    try:
        require_equal(source, tmp_path)
    except (InexactSeek, NotSeekable):
        assert not (tmp_path / "parts.mkv").exists()


def upscale_part(job: VideoJob, index: FrameIndex, part: FrameRange, folder: Path) -> PartSummary:
    return upscale_video_part(job, BicubicFrameUpscaler(2), index, part, folder, segment_frames=SEGMENT)


@pytest.mark.parametrize("damaged", [3, 40])
def test_damage_beside_a_range_that_changes_its_frames_is_an_error(tmp_path: Path, damaged: int) -> None:
    """A frame that is missing before the range renumbers its frames; one after it determines the last duration."""
    clip = CLIPS["MJPEG"]
    source = copy_changed(write(tmp_path / "in.mov", clip), tmp_path / "damaged.mov", halved(damaged))
    job = plan_video(source, tmp_path / "out.mkv", 2, VideoSettings(frames=FrameRange(20, 40)))
    index = index_frames(job.probe)
    parts = split_range(index, job.settings.frames, PART, SEGMENT)
    assert parts == (FrameRange(0, 20),)
    with pytest.raises(InexactSeek):
        upscale_part(job, index, parts[0], tmp_path / "segments")


def test_another_file_than_that_of_the_index_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", CLIPS["H.264, closed GOP"])
    job = plan_video(source, tmp_path / "out.mkv", 2)
    index = index_frames(job.probe)
    moved = replace(index, pts=tuple(time + (number > 20) for number, time in enumerate(index.pts)))
    with raises(InexactSeek, found=index.pts[21], wanted=index.pts[21] + 1):
        upscale_part(job, moved, FrameRange(12, 36), tmp_path / "segments")
    with source.open("ab") as file:
        file.write(bytes(8))
    with raises(InexactSeek, found=index.source_bytes + 8, wanted=index.source_bytes):
        upscale_part(job, index, FrameRange(0, 12), tmp_path / "segments")


class CountingUpscaler(BicubicFrameUpscaler):
    """Records the frames that it upscales, and fails at frame `at`."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__(2, concurrency=1)
        self.upscaled: list[int] = []
        self._at = at

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        if prepared.sequence == self._at:
            raise EngineError("the engine is broken")
        self.upscaled.append(prepared.sequence)
        return super().infer(prepared)


def test_intact_segments_of_a_part_are_not_computed_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", CLIPS["H.264, open GOP"])
    job = plan_video(source, tmp_path / "parts.mp4", 2)
    index, folder, part = index_frames(job.probe), tmp_path / "segments", FrameRange(12, 36)

    def run(upscaler: CountingUpscaler) -> PartSummary:
        return upscale_video_part(job, upscaler, index, part, folder, segment_frames=SEGMENT)

    with pytest.raises(EngineError):
        run(CountingUpscaler(at=27))
    second, third = CountingUpscaler(), CountingUpscaler()
    assert run(second).resumed == 12
    assert second.upscaled == list(range(24, 36))
    finished = run(third)
    assert (finished.resumed, finished.read.frames, third.upscaled) == (24, 24, [])
    first, last = (upscale_part(job, index, part, folder) for part in (FrameRange(0, 12), FrameRange(36)))
    (folder / "000004.mp4").write_bytes(b"")
    with raises(PartsMissing, found=(part,)):
        join_parts(job, folder, [last, finished, first], SEGMENT)
    fourth = CountingUpscaler()
    finished = run(fourth)
    assert fourth.upscaled == list(range(24, 30))
    join_parts(job, folder, [last, finished, first], SEGMENT)
    whole(job, tmp_path / "whole.mp4")
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "parts.mp4", "whole.mp4", "segments"}


def test_parts_that_do_not_cover_the_job_are_refused(tmp_path: Path) -> None:
    job = plan_video(write(tmp_path / "in.mp4", CLIPS["H.264, closed GOP"]), tmp_path / "out.mp4", 2)
    index, folder = index_frames(job.probe), tmp_path / "segments"
    first, second = (upscale_part(job, index, part, folder) for part in (FrameRange(0, 12), FrameRange(12, 24)))
    for summaries in ([], [second], [first, first, second]):
        with pytest.raises(UsageError):
            join_parts(job, folder, summaries, SEGMENT)
    assert not job.target.exists()


@pytest.mark.parametrize("part", ["3:12", "0:13", "48:60", "60:", "6:500"])
def test_parts_without_whole_segments_are_refused(tmp_path: Path, part: str) -> None:
    job = plan_video(write(tmp_path / "in.mp4", CLIPS["H.264, closed GOP"]), tmp_path / "out.mp4", 2)
    with raises(UsageError, found=str(FrameRange.parse(part))):
        upscale_part(job, index_frames(job.probe), FrameRange.parse(part), tmp_path / "segments")
    assert not (tmp_path / "segments").exists()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", CLIPS["H.264, closed GOP"])
    job = plan_video(source, tmp_path / "out.mp4", 2)
    index, folder, part = index_frames(job.probe), tmp_path / "segments", FrameRange(0, 12)
    upscale_part(job, index, part, folder)
    with pytest.raises(UsageError) as caught:
        upscale_part(plan_video(source, tmp_path / "out.mp4", 2, VideoSettings(crf=30)), index, part, folder)
    assert isinstance(caught.value.found, dict) and list(caught.value.found) == ["the encoder"]
    upscaler = BicubicFrameUpscaler(2)
    upscaler.reuse = ReuseOptions.parse(0.05)
    with raises(UsageError, wanted=("off", "exact")):
        upscale_video_part(job, upscaler, index, part, folder, segment_frames=SEGMENT)
    deinterlaced = replace(job, settings=VideoSettings(is_deinterlaced=True))
    with raises(UsageError, found="--deinterlace"):
        upscale_part(deinterlaced, index, part, folder)
    with raises(UsageError, found=".mkv", wanted=".mp4"):
        job.at(source, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    ("encoder", "options", "flags", "expected"),
    [
        ("libx264", {}, "sse4_2 avx2 avx512f", {"x264-params": "asm=avx2"}),
        ("libx264", {"x264-params": "ref=2"}, "avx2 avx512f", {"x264-params": "ref=2:asm=avx2"}),
        ("libx264", {"x264-params": "ref=2:asm=sse4.2"}, "avx512f", {"x264-params": "ref=2:asm=sse4.2"}),
        ("libx264", {"x264opts": "asm=0"}, "avx512f", {"x264opts": "asm=0"}),
        ("libx264", {"x264-params": "ref=2"}, "sse4_2 avx2", {"x264-params": "ref=2"}),
        ("libx265", {"x265-params": "ref=2"}, "avx2 avx512f", {"x265-params": "ref=2"}),
    ],
)
def test_the_machine_that_encodes_chooses_instructions_of_reproducible_bits(
    tmp_path: Path, encoder: str, options: dict[str, str], flags: str, expected: dict[str, str]
) -> None:
    """The plan is made on a machine that may have other instructions."""
    encoding = plan_video(
        write(tmp_path / "in.mp4", replace(CLIPS["H.264, closed GOP"], frames=5)), tmp_path / "out.mp4", 2
    ).encoding
    assert "asm" not in str(encoding.options)
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags}\n")
    assert machine_options(replace(encoding, encoder=encoder, options=options), tmp_path / "cpuinfo") == expected


def test_two_workers_may_write_the_same_part_at_the_same_time(tmp_path: Path) -> None:
    """A worker that was taken for lost may still be running when another one does its part."""
    job = plan_video(write(tmp_path / "in.mp4", CLIPS["H.264, open GOP"]), tmp_path / "parts.mp4", 2)
    index, folder = index_frames(job.probe), tmp_path / "segments"
    parts = [FrameRange(0, 24), FrameRange(24, 50)] * 2
    with ThreadPoolExecutor(4) as workers:
        summaries = list(workers.map(lambda part: upscale_part(job, index, part, folder), parts))
    join_parts(job, folder, summaries[:2], SEGMENT)
    whole(job, tmp_path / "whole.mp4")
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not list(folder.glob(".*"))

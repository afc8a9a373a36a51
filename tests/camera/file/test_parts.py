"""A video that is upscaled in parts equals byte for byte the one that is upscaled in one piece."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sr_edge.camera.file.frame_index import index_frames
from sr_edge.camera.file.job import VideoJob, VideoResult, plan_video, upscale_video
from sr_edge.camera.file.parts import join_parts, split_range, upscale_video_part
from sr_edge.camera.file.probe import probe_video
from sr_edge.camera.file.settings import FrameRange, VideoSettings
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler

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
    with av.open(path, "w", options=clock) as out:
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
    "H.264, 10 bits": Clip("in.mkv", "libx264", H264, "yuv420p10le", key_frames=5),
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
    "MPEG-TS": Clip("in.ts", "libx264", H264, key_frames=5),
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

"""What the source declares and the output does not have: it is declared no longer, and said once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sr_edge.camera.file.job import VideoResult, plan_video, upscale_video
from sr_edge.camera.file.settings import FrameRange, VideoCodec, VideoSettings
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.sources.open import SourceOptions, open_source
from tests.camera.films import Film, pictures_of, shoot

SHORT = Film(range(0, 480, 40), Fraction(1, 1000))
LOST = "no longer declared in the output: "


def upscaled(source: Path, target: Path, settings: VideoSettings | None = None) -> VideoResult:
    return upscale_video(plan_video(source, target, 2, settings), BicubicFrameUpscaler(2))


def with_tags(plain: Path, path: Path, chapters: tuple[tuple[int, int, str], ...] = (), **tags: str) -> Path:
    """Copies a video, with tags of its video stream and with chapters in milliseconds."""
    with av.open(plain) as container, av.open(path, "w") as out:
        video: Any = out.add_stream_from_template(container.streams.video[0], opaque=True)
        video.metadata.update(tags)
        video.codec_context.framerate = 30
        out.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(chapters, 1)
            ]
        )
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    plain.unlink()
    return path


def tags_of(path: Path) -> dict[str, str]:
    with av.open(path) as container:
        return {name.lower(): value for name, value in container.streams.video[0].metadata.items()}


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(path) as container:
        return [
            (
                float(chapter["start"] * chapter["time_base"]),
                float(chapter["end"] * chapter["time_base"]),
                chapter["metadata"]["title"],
            )
            for chapter in container.chapters()
        ]


def test_opacity_is_declared_no_longer(tmp_path: Path) -> None:
    """WebM declares it in a tag; FFmpeg's decoder of VP9 returns the colours only."""
    plain = shoot(tmp_path / "plain.webm", Film(SHORT.pts, SHORT.time_base, "libvpx-vp9"))
    source = with_tags(plain, tmp_path / "in.webm", alpha_mode="1")
    assert tags_of(source)["alpha_mode"] == "1"
    assert upscaled(source, tmp_path / "out.webm").notes == ("its alpha channel is left out",)
    assert "alpha_mode" not in tags_of(tmp_path / "out.webm")


@pytest.mark.parametrize(
    ("arrangement", "name", "settings", "is_kept"),
    [
        ("left_right", "out.mkv", VideoSettings(), True),
        ("top_bottom", "out.mkv", VideoSettings(VideoCodec.H265), True),
        ("right_left", "out.mp4", VideoSettings(), False),
        ("row_interleaved_lr", "out.mkv", VideoSettings(), False),
        ("left_right", "out.mp4", VideoSettings(), True),
        ("left_right", "out.mp4", VideoSettings(VideoCodec.H265), False),
    ],
)
def test_the_arrangement_of_two_views_is_kept_or_said(
    tmp_path: Path, arrangement: str, name: str, settings: VideoSettings, is_kept: bool
) -> None:
    """Upscaling mixes views that alternate from row to row. In MP4, only x264 can write what H.264 itself declares."""
    source = with_tags(shoot(tmp_path / "plain.mkv", SHORT), tmp_path / "in.mkv", stereo_mode=arrangement)
    result = upscaled(source, tmp_path / name, settings)
    assert result.notes == (() if is_kept else (f"{LOST}stereo 3D",))
    is_declared = "stereo_mode" in tags_of(tmp_path / name) or bool(
        pictures_of(tmp_path / name)[0].side_data.get("STEREO3D")
    )
    assert is_declared == is_kept


def test_stereo_declared_by_the_frames_is_kept(tmp_path: Path) -> None:
    film = Film(SHORT.pts, SHORT.time_base, options={"x264-params": "frame-packing=3"})
    source = shoot(tmp_path / "in.mp4", film)
    assert upscaled(source, tmp_path / "out.mp4").notes == ()
    assert pictures_of(tmp_path / "out.mp4")[0].side_data.get("STEREO3D") is not None


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_chapters_are_kept_and_cut_to_a_range(tmp_path: Path, suffix: str) -> None:
    chapters = ((0, 160, "first"), (160, 320, "second"), (320, 480, "third"))
    source = with_tags(shoot(tmp_path / "plain.mkv", SHORT), tmp_path / "in.mkv", chapters)
    assert upscaled(source, tmp_path / f"all{suffix}").notes == ()
    assert chapters_of(tmp_path / f"all{suffix}") == [(0, 0.16, "first"), (0.16, 0.32, "second"), (0.32, 0.48, "third")]
    upscaled(source, tmp_path / f"part{suffix}", VideoSettings(frames=FrameRange(2, 6)))
    assert chapters_of(tmp_path / f"part{suffix}") == [(0, 0.08, "first"), (0.08, 0.16, "second")]


def test_chapters_without_a_place_are_said(tmp_path: Path) -> None:
    source = with_tags(shoot(tmp_path / "plain.mkv", SHORT), tmp_path / "in.mkv", ((0, 80, "only"),))
    result = upscaled(source, tmp_path / "out.mkv", VideoSettings(frames=FrameRange(4, 8)))
    assert result.notes == (f"{LOST}chapters",)


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_timecodes_are_kept_for_whole_files_only(tmp_path: Path, suffix: str) -> None:
    plain = shoot(tmp_path / f"plain{suffix}", Film())
    source = with_tags(plain, tmp_path / f"in{suffix}", timecode="01:00:00:00")
    whole = upscaled(source, tmp_path / f"out{suffix}")
    assert tags_of(tmp_path / f"out{suffix}")["timecode"] == "01:00:00:00"
    assert whole.notes == ()
    part = upscaled(source, tmp_path / f"part{suffix}", VideoSettings(frames=FrameRange(2, 6)))
    assert "timecode" not in tags_of(tmp_path / f"part{suffix}")
    assert f"{LOST}timecode" in part.notes


def test_streams_say_once_what_their_output_will_not_have(tmp_path: Path) -> None:
    film = Film(SHORT.pts, SHORT.time_base, "ffv1", "yuva420p")
    source = with_tags(
        shoot(tmp_path / "plain.mkv", film), tmp_path / "in.mkv", ((0, 80, "only"),), stereo_mode="left_right"
    )
    events: list[str] = []
    list(open_source(str(source), SourceOptions(on_event=events.append)).frames())
    assert events == [f"{source}: the output will not have: alpha channel, chapters, stereo 3D"]

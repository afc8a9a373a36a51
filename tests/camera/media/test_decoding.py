"""Damaged pictures are counted and left out, in files, streams, sequences and folders, whatever the codec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from sr_edge.camera.file.job import plan_video, upscale_video
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.sources.connection import FFmpegInput
from sr_edge.camera.sources.ffmpeg import FFmpegSource
from sr_edge.camera.sources.open import SourceOptions, open_source
from sr_edge.errors import FrameError, StreamError
from tests.camera.damage import FRAMES, copy_changed, halved, left_out, lose_ts_packets, noisy_clip, without_slice
from tests.expected_errors import raises

KEY_FRAMES = {"x265-params": "log-level=none:keyint=4:min-keyint=4:bframes=0"}
SLICES = {"slices": "4", "g": "8"}
DAMAGED = [
    (("in.avi", "mjpeg", "yuvj420p", {}), halved(3), [3]),
    (("in.avi", "mjpeg", "yuvj422p", {}), halved(0, 7), [0, 7]),
    (("in.mov", "png", "rgb24", {}), halved(3, 6), [3, 6]),
    (("in.mkv", "libx264", "yuv420p", SLICES), without_slice(3), [3]),
    (("in.mkv", "libx264", "yuv420p", SLICES), halved(7), [7]),
    (("in.mkv", "mpeg4", "yuv420p", {}), halved(4), [4]),
]
"""A clip, what damages it, and the frames that are damaged."""
IDS = ["mjpeg", "first-and-last", "png", "h264-slice", "h264-end", "mpeg4"]


def damaged_clip(
    folder: Path, clip: tuple[str, str, str, dict[str, str]], change: Callable[[int, bytes], bytes]
) -> Path:
    name, codec, pixel_format, options = clip
    intact = noisy_clip(folder / f"intact-{name}", codec, pixel_format, options)
    damaged = copy_changed(intact, folder / name, change)
    intact.unlink()
    return damaged


@pytest.mark.parametrize(("clip", "change", "numbers"), DAMAGED, ids=IDS)
@pytest.mark.parametrize("is_live", [False, True], ids=["file", "live"])
def test_streams_leave_out_damaged_pictures(
    tmp_path: Path,
    clip: tuple[str, str, str, dict[str, str]],
    change: Callable[[int, bytes], bytes],
    numbers: list[int],
    is_live: bool,
) -> None:
    path = damaged_clip(tmp_path, clip, change)
    events: list[str] = []
    source = FFmpegSource(FFmpegInput(str(path), is_live=is_live), on_event=events.append)
    frames = list(source.frames())
    assert source.unreadable_packets == len(numbers)
    assert len(frames) == FRAMES - len(numbers)
    assert [event for event in events if "damaged" in event] == [f"{path}: damaged pictures are left out and counted"]


@pytest.mark.parametrize(("clip", "change", "numbers"), DAMAGED, ids=IDS)
def test_videos_leave_out_damaged_pictures(
    tmp_path: Path,
    clip: tuple[str, str, str, dict[str, str]],
    change: Callable[[int, bytes], bytes],
    numbers: list[int],
) -> None:
    path = damaged_clip(tmp_path, clip, change)
    result = upscale_video(plan_video(path, tmp_path / "out.mkv", 2), BicubicFrameUpscaler(2))
    assert result.frames == FRAMES - len(numbers)
    assert result.notes[-1] == f"{len(numbers)} damaged frame{'s' if len(numbers) > 1 else ''} left out"
    with av.open(tmp_path / "out.mkv") as container:
        times = [round(picture.time * 25) for picture in container.decode(video=0)]
    shift = 1 if numbers[0] == 0 else 0
    assert [time + (0 if times[0] == shift else shift) for time in times] == [
        number for number in range(FRAMES) if number not in numbers
    ]


@pytest.mark.parametrize(("codec", "lost"), [("libx264", 1), ("mpeg2video", 1), ("libx265", 2)])
@pytest.mark.parametrize("is_live", [False, True], ids=["file", "live"])
def test_pictures_with_lost_packets_are_left_out(tmp_path: Path, codec: str, lost: int, is_live: bool) -> None:
    """H.265 decoders notice no loss within a picture: the demuxer marks the one before it, and both are left out."""
    options = {"b": "4000000"} | ({"g": "8"} if codec != "libx265" else {})
    path = lose_ts_packets(noisy_clip(tmp_path / "in.ts", codec, options=options))
    source = FFmpegSource(FFmpegInput(str(path), is_live=is_live))
    assert len(list(source.frames())) == FRAMES - lost
    assert source.unreadable_packets == lost


def test_a_picture_at_the_end_of_a_truncated_file_is_left_out(tmp_path: Path) -> None:
    """The decoder of HuffYUV notices nothing, the demuxer does."""
    path = noisy_clip(tmp_path / "in.avi", "huffyuv", "yuv422p")
    with av.open(path) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
    assert last.pos is not None
    path.write_bytes(path.read_bytes()[: last.pos + last.size // 2])
    source = FFmpegSource(FFmpegInput(str(path)))
    assert len(list(source.frames())) == FRAMES - 1
    assert source.unreadable_packets == 1


def test_pictures_without_their_references_are_counted(tmp_path: Path) -> None:
    """FFmpeg drops them in silence."""
    path = copy_changed(noisy_clip(tmp_path / "in.mp4", "libx265"), tmp_path / "in.mkv", left_out(4))
    source = FFmpegSource(FFmpegInput(str(path)))
    assert len(list(source.frames())) == 4
    assert source.unreadable_packets == 3


def test_pictures_before_the_first_key_frame_of_a_camera_are_not_counted(tmp_path: Path) -> None:
    path = copy_changed(
        noisy_clip(tmp_path / "in.mp4", "libx265", options=KEY_FRAMES), tmp_path / "in.mkv", left_out(0, 1)
    )
    for is_live, counted in ((True, 0), (False, 2)):
        source = FFmpegSource(FFmpegInput(str(path), is_live=is_live))
        assert len(list(source.frames())) == FRAMES - 4
        assert source.unreadable_packets == counted


def test_intact_streams_are_complete(tmp_path: Path) -> None:
    """Two transport streams in a row: the demuxer suspects the last packet of the first."""
    path = noisy_clip(tmp_path / "in.ts", "libx264", options={"bf": "2"})
    path.write_bytes(2 * path.read_bytes())
    source = FFmpegSource(FFmpegInput(str(path)))
    assert len(list(source.frames())) == 2 * FRAMES
    assert source.unreadable_packets == 0


def pictures(folder: Path, suffix: str) -> Path:
    codec, pixel_format = {"jpg": ("mjpeg", "yuvj420p"), "png": ("png", "rgb24")}[suffix]
    noisy_clip(folder / f"p%04d.{suffix}", codec, pixel_format)
    return folder / f"p%04d.{suffix}"


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_sequences_leave_out_damaged_images(tmp_path: Path, suffix: str) -> None:
    pattern = pictures(tmp_path, suffix)
    cut(tmp_path / f"p0003.{suffix}", 0.5)
    cut(tmp_path / f"p0008.{suffix}", 0.9)
    source = open_source(str(pattern))
    assert len(list(source.frames())) == FRAMES - 2
    assert source.unreadable_packets == 2


def test_a_sequence_that_ends_early_is_an_error(tmp_path: Path) -> None:
    """FFmpeg takes an empty file for the end of the sequence."""
    pattern = pictures(tmp_path, "png")
    cut(tmp_path / "p0005.png", 0)
    with raises(StreamError, found=4, wanted=FRAMES):
        list(open_source(str(pattern)).frames())


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_folders_leave_out_damaged_images(tmp_path: Path, suffix: str) -> None:
    pictures(tmp_path, suffix)
    cut(tmp_path / f"p0003.{suffix}", 0.5)
    cut(tmp_path / f"p0005.{suffix}", 0)
    events: list[str] = []
    source = open_source(str(tmp_path), SourceOptions(on_event=events.append))
    assert [frame.pts for frame in source.frames()] == [0, 1, 3, 5, 6, 7]
    assert source.unreadable_packets == len(events) == 2
    for path in tmp_path.iterdir():
        cut(path, 0)
    with pytest.raises(FrameError):
        list(open_source(str(tmp_path)).frames())


def test_http_cameras_leave_out_damaged_images(tmp_path: Path) -> None:
    """MJPEG over HTTP is a sequence of parts, here in a file."""
    pictures(tmp_path, "jpg")
    cut(tmp_path / "p0004.jpg", 0.5)
    parts = [
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(content), content)
        for content in (path.read_bytes() for path in sorted(tmp_path.glob("*.jpg")))
    ]
    (tmp_path / "camera.mjpeg").write_bytes(b"".join(parts))
    source = FFmpegSource(FFmpegInput(str(tmp_path / "camera.mjpeg"), "mpjpeg"))
    assert len(list(source.frames())) == FRAMES - 1
    assert source.unreadable_packets == 1

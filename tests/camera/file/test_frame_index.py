"""The index of a video: what it contains, and which videos it refuses because no part of them would be exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sr_edge.camera.file.frame_index import FrameIndex, KeyFrame, index_frames
from sr_edge.camera.file.parts import frames_in, split_range
from sr_edge.camera.file.probe import VideoProbe, probe_video
from sr_edge.camera.file.settings import FrameRange
from sr_edge.camera.media.deinterlacing import Interlacing
from sr_edge.errors import FrameError, NotSeekable, UsageError
from tests.camera.damage import TS_PACKET_BYTES, copy_changed, left_out, lose_ts_packets
from tests.camera.films import UNEVEN, Film, pts_of, shoot
from tests.expected_errors import raises

LONG = Film(range(0, 30 * 3000, 3000))
H264_OPEN = {"g": "6", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}


def index_of(pts: int) -> FrameIndex:
    return FrameIndex(tuple(range(pts)), (KeyFrame(0, 0, 0),), 1)


def test_an_index_has_the_timestamps_of_the_decoded_frames(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN))
    index = index_frames(probe_video(source))
    assert list(index.pts) == pts_of(source)[1] == list(UNEVEN)
    with av.open(source) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert [key_frame.pts for key_frame in index.key_frames] == pts
    first, second, third = (key_frame.number for key_frame in index.key_frames)
    assert [UNEVEN[first], UNEVEN[second], UNEVEN[third]] == pts
    assert index.source_bytes == source.stat().st_size
    assert index.entries_before(third - 1) == index.key_frames[1::-1]
    assert index.entries_before(third) == index.key_frames[::-1]


def test_the_start_offset_of_a_transport_stream_is_subtracted(tmp_path: Path) -> None:
    probe = probe_video(shoot(tmp_path / "in.ts", Film(range(0, 30 * 3000, 3000))))
    assert probe.start_offset > 0
    assert index_frames(probe).pts == tuple(range(0, 30 * 3000, 3000))


def test_an_index_is_stored_as_json(tmp_path: Path) -> None:
    index = index_frames(probe_video(shoot(tmp_path / "in.mp4", LONG)))
    assert FrameIndex.from_json(index.to_json()) == index
    for damaged in ("", "[]", "{}", '{"pts": 3, "key_frames": [], "source_bytes": 1}', index.to_json()[:-20]):
        with pytest.raises(FrameError):
            FrameIndex.from_json(damaged)


def as_avi(folder: Path) -> Path:
    return shoot(folder / "in.avi", replace(LONG, time_base=Fraction(1, 30), pts=range(30), options={"bf": "0"}))


def without_its_first_key_frame(folder: Path) -> Path:
    return copy_changed(shoot(folder / "whole.mkv", LONG), folder / "in.mkv", left_out(0))


def without_the_group_before_an_open_one(folder: Path) -> Path:
    source = shoot(folder / "whole.mkv", replace(LONG, options=H264_OPEN))
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    second = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
    return copy_changed(source, folder / "in.mkv", left_out(*range(second)))


def with_other_packets(folder: Path, pts: Callable[[int, int], int | None]) -> Path:
    """A Matroska file without reordering, whose packets have the timestamps that `pts(number, pts)` returns."""
    source = shoot(folder / "whole.mkv", replace(LONG, options={"g": "6", "bf": "0"}))
    with av.open(source) as container, av.open(folder / "in.mkv", "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in container.demux(video=0) if packet.size):
            packet.pts = packet.dts = pts(number, packet.pts or 0)
            packet.stream = stream
            out.mux(packet)
    return folder / "in.mkv"


def with_a_repeated_timestamp(folder: Path) -> Path:
    return with_other_packets(folder, lambda number, pts: pts - 33 if number == 10 else pts)


def two_in_a_row(folder: Path) -> Path:
    """Two transport streams in one file, each with timestamps from its own start, and no packet missing."""
    films = [replace(LONG, pts=range(start, 90 * 3000, 3000)) for start in (0, 7000)]
    content = bytearray(b"".join(shoot(folder / "one.ts", film).read_bytes() for film in films))
    counters: dict[int, int] = {}
    for start in range(0, len(content), TS_PACKET_BYTES):
        stream_id = int.from_bytes(content[start + 1 : start + 3], "big") & 0x1FFF
        if content[start + 3] & 0x10:  # it has a payload
            counters[stream_id] = (counters.get(stream_id, -1) + 1) % 16
        content[start + 3] = content[start + 3] & 0xF0 | counters.get(stream_id, 0)
    (folder / "in.ts").write_bytes(content)
    return folder / "in.ts"


def with_lost_ts_packets(folder: Path) -> Path:
    return lose_ts_packets(shoot(folder / "in.ts", LONG))


def without_timestamps(folder: Path) -> Path:
    return shoot(folder / "in.h264", LONG)


def grey_picture() -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((48, 64), 100, np.uint8), "gray").reformat(format="yuv420p")


def with_an_edit_list(folder: Path) -> Path:
    """Frames before time 0 are decoded but not displayed, as in a clip that was cut without encoding it again."""
    pts = range(-4 * 3000, 26 * 3000, 3000)
    path = folder / "in.mp4"
    with av.open(path, "w", options={"avoid_negative_ts": "disabled"}) as out:
        video: Any = out.add_stream("libx264", rate=30, options={"g": "30", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        for time in pts:
            picture = grey_picture()
            picture.pts, picture.time_base = time, Fraction(1, 90_000)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
    return path


def of_another_codec(folder: Path) -> Path:
    return shoot(folder / "in.mp4", replace(LONG, codec="mpeg4", time_base=Fraction(1, 30), pts=range(30)))


def truncated(folder: Path) -> Path:
    source = shoot(folder / "in.mkv", replace(LONG, pts=range(0, 90 * 3000, 3000)))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return source


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (as_avi, "AVI"),
        (without_timestamps, "without a timestamp"),
        (without_its_first_key_frame, "not a key frame"),
        (without_the_group_before_an_open_one, "displayed before its first key frame"),
        (with_a_repeated_timestamp, "the same timestamp"),
        (two_in_a_row, "restart"),
        (with_lost_ts_packets, "damaged"),
        (with_an_edit_list, "edit list"),
        (of_another_codec, "mpeg4"),
        (truncated, "truncated"),
    ],
)
def test_a_video_whose_parts_may_not_be_exact_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    with pytest.raises(NotSeekable) as caught:
        index_frames(probe_video(make(tmp_path)))
    assert isinstance(caught.value.found, str) and reason in caught.value.found


def test_fields_and_deinterlacing_are_refused(tmp_path: Path) -> None:
    probe: VideoProbe = probe_video(shoot(tmp_path / "in.mp4", LONG))
    with pytest.raises(NotSeekable):
        index_frames(probe, is_deinterlaced=True)
    with pytest.raises(NotSeekable):
        index_frames(replace(probe, interlacing=Interlacing.FRAMES))


def test_decoding_starts_only_where_the_parameter_sets_are_those_of_the_first_packet(tmp_path: Path) -> None:
    """In the second half the encoder has other options, which its key frames announce."""
    with av.open(tmp_path / "in.ts", "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for first, params in ((0, "scenecut=0"), (20, "scenecut=0:cabac=0:ref=1")):
            encoder: Any = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = {"g": "5", "x264-params": params}
            pictures = [grey_picture() for _ in range(20)]
            for number, picture in enumerate(pictures, first):
                picture.pts, picture.time_base = number, Fraction(1, 25)
            for packet in [packet for picture in (*pictures, None) for packet in encoder.encode(picture)]:
                packet.stream = stream
                out.mux(packet)
    index = index_frames(probe_video(tmp_path / "in.ts"))
    assert len(index.pts) == 40
    assert [key_frame.number for key_frame in index.key_frames] == [0, 5, 10, 15]


@pytest.mark.parametrize(
    ("frames", "frame_range", "parts"),
    [
        (30, "0:", ["0:30"]),
        (1199, "0:", ["0:1199"]),
        (1200, "0:", ["0:600", "600:1200"]),
        (1799, "0:", ["0:600", "600:1799"]),
        (5000, "100:1901", ["0:600", "600:1200", "1200:1801"]),
        (2000, "800:", ["0:600", "600:1200"]),
    ],
)
def test_a_range_is_split_into_parts_of_at_least_600_frames(frames: int, frame_range: str, parts: list[str]) -> None:
    assert [str(part) for part in split_range(index_of(frames), FrameRange.parse(frame_range))] == parts


def test_parts_must_consist_of_segments() -> None:
    with raises(UsageError, found=601):
        split_range(index_of(5000), part_frames=601)
    with raises(FrameError, found="40:"):
        frames_in(index_of(30), FrameRange(40))

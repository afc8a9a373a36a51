"""Invalid video files and settings: one error each, and no file is left behind."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from sr_edge.camera.file.containers import SUFFIXES
from sr_edge.camera.file.job import VideoResult, plan_video, upscale_video
from sr_edge.camera.file.settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
from sr_edge.camera.media.codecs import CodecVerdict
from sr_edge.camera.media.ffmpeg_errors import remedy_of
from sr_edge.camera.media.frame import PixelFormat
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler
from sr_edge.camera.sources.open import SourceOptions, open_source
from sr_edge.errors import FrameError, SrEdgeError, StreamError, UsageError
from tests.camera.damage import with_unknown_track
from tests.camera.films import Film, packets_of, pts_of, shoot
from tests.expected_errors import raises

LONG = Film([33 * number for number in range(90)], Fraction(1, 1000))


def upscaled(source: Path, target: Path, settings: VideoSettings | None = None) -> VideoResult:
    return upscale_video(plan_video(source, target, 2, settings), BicubicFrameUpscaler(2))


def test_a_hardware_encoder_that_does_not_work_is_refused_before_the_work(
    tmp_path: Path, absent_encoder: CodecVerdict
) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    with raises(StreamError, found=absent_encoder.reason):
        plan_video(source, tmp_path / "out.mkv", 2, VideoSettings(absent_encoder.name))
    assert list(tmp_path.iterdir()) == [source]


def test_an_encoder_without_a_rate_factor_refuses_one_and_says_its_bit_rate(tmp_path: Path) -> None:
    source, out = shoot(tmp_path / "in.mp4", Film(range(12), Fraction(1, 30))), tmp_path / "out.mp4"
    with raises(StreamError, found={"crf": "20"}):
        plan_video(source, out, 2, VideoSettings("mpeg4", crf=20))
    (note,) = plan_video(source, out, 2, VideoSettings("mpeg4")).notes
    assert "mpeg4" in note and "Mbit/s" in note
    assert upscaled(source, out, VideoSettings("mpeg4")).frames == 12
    with raises(UsageError, found=Fraction(1, 90_000)):
        plan_video(shoot(tmp_path / "fine.mp4", Film()), out, 2, VideoSettings("mpeg4"))


def truncate(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def writer_of(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def audio_only(path: Path) -> Path:
    both = shoot(path.with_name("both.mp4"), Film(audio="aac"))
    with av.open(both) as source, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    both.unlink()
    return path


@pytest.mark.parametrize(
    ("make", "error", "fields"),
    [
        (lambda path: path, FrameError, {"wanted": "an existing file"}),
        (writer_of(b""), FrameError, {"wanted": "at least 1 byte"}),
        (audio_only, StreamError, {"found": ("audio",), "wanted": "video"}),
    ],
    ids=["absent", "empty", "audio"],
)
def test_files_without_video_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], error: type[SrEdgeError], fields: dict[str, object]
) -> None:
    source = make(tmp_path / "in.mp4")
    with raises(error, **fields) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert str(source) in caught.value.problem
    assert {path.name for path in tmp_path.iterdir()} <= {"in.mp4"}


@pytest.mark.parametrize(
    "make", [writer_of(b"\x13\x37" * 9000), lambda path: truncate(shoot(path, LONG), 0.5)], ids=["noise", "truncated"]
)
def test_errors_of_ffmpeg_keep_their_reason(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = make(tmp_path / "in.mp4")
    with raises(StreamError, found=str(source), remedy=remedy_of(av.error.InvalidDataError(0, ""))):
        upscaled(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").mkdir()
    with raises(FrameError, found=tmp_path / "in.mp4", wanted="a video file"):
        upscaled(tmp_path / "in.mp4", tmp_path / "out.mp4")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("FFmpeg would show this as a terminal.\n" * 20)
    with raises(StreamError, found="text", wanted="video"):
        upscaled(tmp_path / "notes.txt", tmp_path / "out.mp4")


def test_a_text_file_with_the_suffix_of_a_video_is_refused(tmp_path: Path) -> None:
    """Whether FFmpeg detects it as text depends on its version."""
    (tmp_path / "in.mp4").write_bytes(b"just some words\n" * 400)
    with pytest.raises(StreamError) as caught:
        upscaled(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert caught.value.found == "text" or "Invalid data" in caught.value.problem
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_truncated_file_is_refused_and_its_frames_can_be_selected(tmp_path: Path) -> None:
    source = truncate(shoot(tmp_path / "in.mkv", LONG), 0.5)
    count = len(pts_of(source)[1])
    with raises(StreamError, found=count) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    assert isinstance(caught.value.wanted, int) and 20 < count < caught.value.wanted
    frames = str(caught.value.remedy).rpartition("--frames ")[2]
    assert frames == f":{count}"
    assert upscaled(source, tmp_path / "out.mp4", VideoSettings(frames=FrameRange.parse(frames))).frames == count


def test_a_truncated_file_with_a_complete_index_is_refused(tmp_path: Path) -> None:
    plain = shoot(tmp_path / "plain.mp4", LONG)
    with av.open(plain) as source, av.open(tmp_path / "in.mp4", "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    truncate(tmp_path / "in.mp4", 0.9)
    with raises(StreamError, wanted=90) as caught:
        upscaled(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert isinstance(caught.value.found, int) and 20 < caught.value.found < 90


def test_undecodable_packets_are_counted(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(0, 120_000, 3000), form="yuv444p"))
    with av.open(source) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][33]
    content = bytearray(source.read_bytes())
    assert packet.pos is not None
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    source.write_bytes(content)
    result = upscaled(source, tmp_path / "out.mp4")
    assert result.frames == 39
    assert result.notes == ("1 damaged frame left out",)
    assert pts_of(tmp_path / "out.mp4")[1] == [pts for pts in range(0, 120_000, 3000) if pts != packet.pts]


def test_an_unsupported_pixel_format_is_refused(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.nut", Film(range(0, 400, 40), Fraction(1, 1000), "rawvideo", "bayer_rggb8"))
    with pytest.raises(FrameError) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert str(source) in caught.value.problem and caught.value.found == "bayer_rggb8"


def test_a_change_of_the_frame_size_is_refused(tmp_path: Path) -> None:
    segments = [shoot(tmp_path / f"{width}.h264", Film(range(10), Fraction(1, 30), width=width)) for width in (64, 96)]
    source = tmp_path / "in.h264"
    source.write_bytes(b"".join(segment.read_bytes() for segment in segments))
    with raises(StreamError, found=(96, 48), wanted=(64, 48)) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert "--frames :10" in str(caught.value.remedy)
    assert upscaled(source, tmp_path / "out.mp4", VideoSettings(frames=FrameRange(0, 10))).frames == 10


@pytest.mark.parametrize(
    ("film", "name", "settings", "found", "wanted", "option"),
    [
        (Film(), "out.avi", None, ".avi", SUFFIXES, ".mkv"),
        (Film(), "out", None, "", SUFFIXES, ".mp4"),
        (Film(), "out.png", None, ".png", SUFFIXES, ".webm"),
        (Film(), "out.webm", VideoSettings(VideoCodec.H264), "h264", ("vp9", "av1"), "--codec vp9"),
        (Film(), "out.mp4", VideoSettings(crf=52), 52, range(52), "51"),
        (Film(), "out.mp4", VideoSettings("libx264", crf=999), "999", range(52), "51"),
        (Film(), "out.mp4", VideoSettings(encoder_options={"crf": "999"}), "999", range(52), "51"),
        (
            Film(form="yuv422p"),
            "out.mp4",
            VideoSettings(VideoCodec.AV1),
            "av1",
            ("h264", "h265", "vp9"),
            "--codec h264",
        ),
        (
            Film(),
            "out.mp4",
            VideoSettings(VideoCodec.AV1, pixel_format=PixelFormat.I444),
            "yuv444p",
            ["yuv420p", "yuv420p10le"],
            "--pixel-format yuv420p",
        ),
        (
            Film(),
            "out.webm",
            VideoSettings(pixel_format=PixelFormat.RGB),
            "rgb24",
            ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"],
            "--pixel-format yuv420p",
        ),
    ],
    ids=["avi", "bare", "png", "codec", "crf", "encoder-crf", "option-crf", "format", "pixel-format", "rgb"],
)
def test_impossible_outputs_are_refused_before_the_work(
    tmp_path: Path,
    film: Film,
    name: str,
    settings: VideoSettings | None,
    found: object,
    wanted: object,
    option: str,
) -> None:
    source = shoot(tmp_path / "in.mp4", film)
    with raises(UsageError, found=found, wanted=wanted) as caught:
        plan_video(source, tmp_path / name, 2, settings)
    assert option in str(caught.value.remedy)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_the_output_cannot_replace_the_input(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    before = source.read_bytes()
    with raises(UsageError, found=source):
        plan_video(source, source, 2)
    assert source.read_bytes() == before


def test_a_missing_folder_is_an_error_before_the_work(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    with pytest.raises(UsageError) as caught:
        plan_video(source, tmp_path / "no" / "out.mp4", 2)
    assert f"folder {tmp_path / 'no'} " in caught.value.problem
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        (
            "out.webm",
            "left out: stream 1 (audio aac), stream 2 (subtitle mov_text) (a .mp4 file can store what this one cannot)",
        ),
        ("out.mkv", "left out: stream 2 (subtitle mov_text) (a .mp4 file can store what this one cannot)"),
    ],
)
def test_streams_that_the_container_cannot_store_are_left_out_with_a_note(tmp_path: Path, name: str, note: str) -> None:
    source = shoot(tmp_path / "in.mp4", Film(audio="aac", subtitles=[(0, 100, "one")]))
    job = plan_video(source, tmp_path / name, 2)
    assert job.notes == (note,)
    assert upscale_video(job, BicubicFrameUpscaler(2)).notes == (note,)
    with av.open(tmp_path / name) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"][: 2 if name == "out.mkv" else 1]


def test_tags_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mkv", replace(LONG, metadata={"title": "Gr__ezi"}))
    source.write_bytes(source.read_bytes().replace(b"Gr__ezi", b"Gr\xfc\xdfezi"))
    upscaled(source, tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as container:
        assert container.metadata["title"] == "Gr\ufffd\ufffdezi"
    assert len(list(open_source(str(source)).frames())) == len(LONG.pts)


def test_a_display_matrix_of_a_damaged_file_does_not_overflow(tmp_path: Path) -> None:
    matrix = (65_536, 0, 0, 0, 65_536, 0, 2**31 - 1, 0, 1 << 30)
    source = shoot(tmp_path / "in.mp4", Film(range(0, 9000, 3000), matrix=matrix))
    assert upscaled(source, tmp_path / "out.mp4").frames == 3


def test_a_track_of_an_unknown_codec_is_left_out_and_the_others_are_kept(tmp_path: Path) -> None:
    plain = shoot(tmp_path / "plain.mp4", Film(audio="aac"))
    source = with_unknown_track(plain, tmp_path / "in.mp4")
    result = upscaled(source, tmp_path / "out.mp4")
    assert result.notes == ("left out: stream 2 (audio of an unknown codec)",)
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(plain, "audio")
    events: list[str] = []
    streamed = open_source(str(source), SourceOptions(on_event=events.append))
    assert len(list(streamed.frames())) == 12
    assert events == [f"{source}: left out, since no output can store it: stream 2 (audio of an unknown codec)"]
    passthrough = streamed.info.passthrough
    assert passthrough is not None and list(passthrough.templates) == [1]


def test_streams_can_be_left_out(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(audio="aac", subtitles=[(0, 100, "one")]))
    result = upscaled(source, tmp_path / "out.webm", VideoSettings(copied_streams=StreamSelection.NONE))
    assert result.notes == ("left out: stream 1 (audio aac), stream 2 (subtitle mov_text)",)


@contextmanager
def limit_file_size(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(0, 90_000, 3000)))
    job = plan_video(source, tmp_path / "out.mp4", 2, VideoSettings(crf=0))
    with limit_file_size(4000), pytest.raises(StreamError) as caught:
        upscale_video(job, BicubicFrameUpscaler(2))
    assert f"out.mp4: {os.strerror(errno.EFBIG)}" in caught.value.problem
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    renamed = source.rename(tmp_path / "rtsp:clip 1%d.mp4")
    upscaled(renamed, tmp_path / "http:out #1.mp4")
    assert pts_of(tmp_path / "http:out #1.mp4") == pts_of(renamed)


def test_a_pyav_without_display_matrices_refuses_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shoot(tmp_path / "in.mp4", Film(matrix=(0, 65_536, 0, -65_536, 0, 0, 0, 0, 1 << 30)))
    monkeypatch.setattr(av, "VideoStream", object)
    with raises(UsageError, found=av.__version__, wanted="av>=17.1"):
        plan_video(source, tmp_path / "out.mp4", 2)

"""Upscaled video files keep timestamps, streams and metadata. Bicubic interpolation stands in for the network."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from sr_edge.camera.file.job import VideoResult, plan_video, upscale_video
from sr_edge.camera.file.settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
from sr_edge.camera.media.frame import PixelFormat
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler, NetworkFrameUpscaler
from sr_edge.errors import FrameError, UsageError
from sr_edge.runtimes import Session
from tests.camera.films import (
    UNEVEN,
    Film,
    numbers_of,
    packets_of,
    pictures_of,
    pts_of,
    samples_of,
    shoot,
    times_of,
)
from tests.expected_errors import raises


def upscaled(source: Path, target: Path, settings: VideoSettings | None = None, scale: int = 2) -> VideoResult:
    job = plan_video(source, target, scale, settings)
    result = upscale_video(job, BicubicFrameUpscaler(scale))
    assert sorted(path.name for path in target.parent.iterdir()) == sorted({source.name, target.name})
    return result


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("start", [0, 45_001], ids=["from-0", "late"])
def test_uneven_timestamps_are_exact(tmp_path: Path, suffix: str, start: int) -> None:
    pts = [start + time for time in UNEVEN]
    source = shoot(tmp_path / f"in{suffix}", Film(pts))
    result = upscaled(source, tmp_path / f"out{suffix}")
    assert pts_of(source) == (Fraction(1, 90_000), pts)
    assert pts_of(tmp_path / f"out{suffix}") == pts_of(source)
    assert numbers_of(tmp_path / f"out{suffix}") == list(range(len(pts)))
    assert (result.frames, result.width, result.height) == (len(pts), 128, 96)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_timestamps_in_milliseconds_are_exact(tmp_path: Path, suffix: str) -> None:
    source = shoot(tmp_path / "in.mkv", Film([7, 40, 41, 90, 300], Fraction(1, 1000)))
    upscaled(source, tmp_path / f"out{suffix}")
    assert pts_of(tmp_path / f"out{suffix}") == (Fraction(1, 1000), [7, 40, 41, 90, 300])


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mkv"), ("vp9", ".webm")])
def test_matroska_rounds_timestamps_to_milliseconds(tmp_path: Path, codec: str, suffix: str) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN))
    upscaled(source, tmp_path / f"out{suffix}", VideoSettings(VideoCodec(codec)))
    assert times_of(tmp_path / f"out{suffix}") == [Fraction(round(time / 90), 1000) for time in UNEVEN]


def test_frames_before_the_start_of_an_edit_list_stay_hidden(tmp_path: Path) -> None:
    """Players start within a group of pictures, whose first frames are decoded and never displayed."""
    source = shoot(tmp_path / "in.mp4", Film(range(-9000, 27_000, 3000)))
    with av.open(source) as container:
        assert container.streams.video[0].frames == 12
    upscaled(source, tmp_path / "out.mp4")
    assert pts_of(source)[1] == list(range(0, 27_000, 3000))
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "out.mp4") == list(range(3, 12))


def test_a_transport_stream_starts_at_zero(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.ts", Film([90_000 + time for time in UNEVEN], audio="aac"))
    upscaled(source, tmp_path / "out.mp4")
    before, after = times_of(source), times_of(tmp_path / "out.mp4")
    audio_before, audio_after = packets_of(source, "audio"), packets_of(tmp_path / "out.mp4", "audio")
    shift = before[0] - after[0]
    assert [time - shift for time in before] == after
    assert [start - shift for start, _, _ in audio_before] == [start for start, _, _ in audio_after]
    assert min(after[0], audio_after[0][0]) == 0


@pytest.mark.parametrize(("name", "codec"), [("in.avi", "mpeg4"), ("in.avi", "libx264"), ("in.h264", "libx264")])
def test_containers_without_timestamps_get_a_constant_rate(tmp_path: Path, name: str, codec: str) -> None:
    source = shoot(tmp_path / name, Film(range(20), Fraction(1, 30), codec))
    upscaled(source, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == [Fraction(number, 30) for number in range(20)]
    assert numbers_of(tmp_path / "out.mp4") == [number % 16 for number in range(20)]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_time_base_with_a_numerator_above_1(tmp_path: Path, name: str) -> None:
    frame = Fraction(1001, 30_000)
    source = shoot(tmp_path / "in.avi", Film(range(20), frame, "mpeg4"))
    upscaled(source, tmp_path / name)
    exact = [number * frame for number in range(20)]
    rounded = [Fraction(math.floor(1000 * time + Fraction(1, 2)), 1000) for time in exact]
    assert times_of(tmp_path / name) == (exact if name == "out.mp4" else rounded)


@pytest.mark.parametrize(("suffix", "audio"), [(".mp4", "aac"), (".mkv", "aac"), (".webm", "libopus"), (".mov", "aac")])
def test_audio_packets_and_timestamps_are_copied(tmp_path: Path, suffix: str, audio: str) -> None:
    codec = {".webm": "libvpx-vp9"}.get(suffix, "libx264")
    base = Fraction(1, 90_000) if suffix in (".mp4", ".mov") else Fraction(1, 1000)
    pts = UNEVEN if base.denominator == 90_000 else [time // 10 for time in UNEVEN if time != 20_001]
    source = shoot(tmp_path / f"in{suffix}", Film(pts, base, codec, audio=audio))
    result = upscaled(source, tmp_path / f"out{suffix}")
    packets = packets_of(source, "audio")
    assert len(packets) > 30
    assert packets_of(tmp_path / f"out{suffix}", "audio") == packets
    assert pts_of(tmp_path / f"out{suffix}") == pts_of(source)
    assert result.copied == (f"stream 1 (audio {audio.removeprefix('lib')})",)


def test_audio_before_zero_shifts_no_timestamp_in_matroska(tmp_path: Path) -> None:
    """The priming samples of AAC are before 0; by default, FFmpeg would shift all timestamps."""
    source = shoot(tmp_path / "in.mp4", Film(range(0, 90_000, 9000), audio="aac"))
    upscaled(source, tmp_path / "out.mkv")
    assert packets_of(source, "audio")[0][0] < 0
    assert times_of(tmp_path / "out.mkv") == times_of(source)
    rounded = [Fraction(round(start * 1000), 1000) for start, _, _ in packets_of(source, "audio")]
    assert [start for start, _, _ in packets_of(tmp_path / "out.mkv", "audio")] == rounded


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_subtitles_are_copied(tmp_path: Path, suffix: str) -> None:
    lines = [(100, 300, "one"), (400, 50, "two"), (600, 100, "three")]
    source = shoot(tmp_path / f"in{suffix}", Film(subtitles=lines))
    upscaled(source, tmp_path / f"out{suffix}")
    packets = packets_of(tmp_path / f"out{suffix}", "subtitle")
    assert packets == packets_of(source, "subtitle")
    assert [(int(1000 * start), int(1000 * duration)) for start, duration, _ in packets] == [line[:2] for line in lines]


@pytest.mark.parametrize(("copied", "kinds"), [("all", {"video", "audio", "subtitle"}), ("audio", {"video", "audio"})])
def test_streams_that_are_not_selected_are_left_out_and_noted(tmp_path: Path, copied: str, kinds: set[str]) -> None:
    source = shoot(tmp_path / "in.mp4", Film(audio="aac", subtitles=[(0, 100, "one")]))
    result = upscaled(source, tmp_path / "out.mp4", VideoSettings(copied_streams=StreamSelection(copied)))
    with av.open(tmp_path / "out.mp4") as container:
        assert {stream.type for stream in container.streams} == kinds
    assert (result.notes == ()) == (copied == "all")
    assert all("stream 2 (subtitle mov_text)" in note for note in result.notes)


def add_to_copy(plain: Path, path: Path, add: Callable[[Any], Callable[[], None]]) -> None:
    """Copies the video of `plain`, adds to the new file what `add` writes, and removes `plain`."""
    with av.open(plain) as container, av.open(path, "w") as out:
        video = out.add_stream_from_template(container.streams.video[0], opaque=True)
        write = add(out)
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        write()
    plain.unlink()


@pytest.mark.parametrize(("name", "frames"), [("out.mp4", ":"), ("out.m4v", "6:"), ("out.mov", ":"), ("out.mkv", ":")])
def test_a_cover_picture_is_kept_where_the_container_can_store_it(tmp_path: Path, name: str, frames: str) -> None:
    def add_cover(out: Any) -> Callable[[], None]:
        cover = out.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = Disposition.attached_pic
        return lambda: out.mux(cover.encode(av.VideoFrame(32, 32, "rgb24")))

    plain = shoot(tmp_path / "plain.mp4", Film())
    add_to_copy(plain, tmp_path / "in.mp4", add_cover)
    result = upscaled(tmp_path / "in.mp4", tmp_path / name, VideoSettings(frames=FrameRange.parse(frames)))
    is_kept = name in ("out.mp4", "out.m4v")
    assert len(result.notes) == (not is_kept)
    assert all("stream 1 (cover picture png)" in text for text in (result.copied if is_kept else result.notes))
    with av.open(tmp_path / name) as container:
        covers = [stream for stream in container.streams if stream.disposition & Disposition.attached_pic]
        assert [(cover.codec_context.name, cover.width) for cover in covers] == [("png", 32)] * is_kept
    assert numbers_of(tmp_path / name) == list(range(12))[0 if frames == ":" else 6 :]


def test_attached_fonts_are_copied_in_matroska(tmp_path: Path) -> None:
    def add_font(out: Any) -> Callable[[], None]:
        out.add_attachment("letters.ttf", "font/ttf", b"a font")
        return lambda: None

    add_to_copy(
        shoot(tmp_path / "plain.mkv", Film(range(0, 480, 40), Fraction(1, 1000))), tmp_path / "in.mkv", add_font
    )
    result = upscaled(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert result.notes == ()
    with av.open(tmp_path / "out.mkv") as container:
        assert [stream.type for stream in container.streams] == ["video", "attachment"]
        assert container.streams[1].metadata["filename"] == "letters.ttf"
    (tmp_path / "out.mkv").unlink()
    (note,) = upscaled(tmp_path / "in.mkv", tmp_path / "out.mp4").notes
    assert note.startswith("left out: stream 1 (attachment)") and ".mkv" in note


def test_timestamps_that_restart_are_continued(tmp_path: Path) -> None:
    """Two recordings whose bytes were concatenated."""
    source = shoot(tmp_path / "in.ts", Film(range(90_000, 120_000, 3000)))
    source.write_bytes(2 * source.read_bytes())
    result = upscaled(source, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == [Fraction(number, 30) for number in range(20)]
    assert numbers_of(tmp_path / "out.mp4") == [*range(10), *range(10)]
    assert result.notes == (
        "timestamps that did not increase moved the last frames by 0.333333 s; the audio may be out of sync",
    )


ROTATED_90 = (0, 65_536, 0, -65_536, 0, 0, 48 << 16, 0, 1 << 30)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_display_matrix_is_kept_and_not_applied(tmp_path: Path, suffix: str) -> None:
    source = shoot(tmp_path / f"in{suffix}", Film(matrix=ROTATED_90))
    upscaled(source, tmp_path / f"out{suffix}")
    small, large = pictures_of(source)[0], pictures_of(tmp_path / f"out{suffix}")[0]
    assert (large.width, large.height) == (128, 96)
    assert large.rotation == small.rotation == -90
    matrix = struct.unpack("=9i", bytes(large.side_data["DISPLAYMATRIX"]))
    assert matrix == (*ROTATED_90[:6], 96 << 16, 0, 1 << 30)


def test_the_display_matrix_is_kept_in_matroska(tmp_path: Path) -> None:
    upscaled(shoot(tmp_path / "in.mp4", Film(matrix=ROTATED_90)), tmp_path / "out.mkv")
    assert pictures_of(tmp_path / "out.mkv")[0].rotation == -90


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("colour", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 9, 9, 16), (1, 6, 6, 6)])
def test_colour_and_aspect_are_kept(tmp_path: Path, suffix: str, colour: tuple[int, int, int, int]) -> None:
    source = shoot(tmp_path / "in.mp4", Film(colour=colour, aspect=Fraction(4, 3)))
    upscaled(source, tmp_path / f"out{suffix}")
    picture = pictures_of(tmp_path / f"out{suffix}")[0]
    assert (picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc) == colour
    with av.open(tmp_path / f"out{suffix}") as container:
        video = container.streams.video[0]
        assert video.sample_aspect_ratio == Fraction(4, 3)
        assert (video.color_range, video.colorspace, video.color_primaries, video.color_trc) == colour


@pytest.mark.parametrize("codec", VideoCodec)
def test_hdr_metadata_is_kept_or_noted(tmp_path: Path, codec: VideoCodec) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    params = f"log-level=none:hdr10=1:master-display={display}:max-cll=1000,400"
    film = Film(codec="libx265", form="yuv420p10le", colour=(1, 9, 9, 16), options={"x265-params": params})
    source = shoot(tmp_path / "in.mp4", film)
    is_kept = codec is not VideoCodec.VP9
    settings = VideoSettings(codec, pixel_format=None if is_kept else PixelFormat.I420)
    result = upscaled(source, tmp_path / "out.mp4", settings)
    before, after = (pictures_of(path)[0].side_data for path in (source, tmp_path / "out.mp4"))
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        side_data = after.get(kind)
        assert (side_data is not None) == is_kept
        if side_data is not None:
            assert hdr_values(kind, bytes(side_data)) == pytest.approx(hdr_values(kind, bytes(before[kind])), rel=2e-3)
    lost = "no longer declared in the output: HDR content light levels, HDR mastering display"
    assert result.notes == (() if is_kept else (lost,))


def hdr_values(kind: str, content: bytes) -> list[float]:
    """The light levels, or the chromaticities and luminances, which are fractions of integers."""
    integers = struct.unpack(f"={len(content) // 4}i", content)
    if kind == "CONTENT_LIGHT_LEVEL":
        return [float(value) for value in integers]
    return [numerator / denominator for numerator, denominator in zip(integers[:20:2], integers[1:20:2], strict=True)]


@pytest.mark.parametrize(
    ("form", "codec", "name"),
    [
        ("yuv420p", "libx264", "h264"),
        ("yuv420p10le", "libx265", "hevc"),
        ("yuv422p", "libx264", "h264"),
        ("yuv444p", "libx264", "h264"),
        ("yuv422p10le", "libx264", "hevc"),
        ("yuv444p10le", "libx264", "hevc"),
    ],
)
def test_depth_and_chroma_are_kept(tmp_path: Path, form: str, codec: str, name: str) -> None:
    source = shoot(tmp_path / "in.mkv", Film(range(0, 120, 40), Fraction(1, 1000), codec, form))
    result = upscaled(source, tmp_path / "out.mp4")
    picture = pictures_of(tmp_path / "out.mp4")[0]
    assert picture.format.name == form
    assert result.format is PixelFormat(form)
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].codec_context.name == name
        assert container.streams.video[0].codec_tag == {"h264": "avc1", "hevc": "hvc1"}[name]


def test_10_bits_stay_10_bits(tmp_path: Path) -> None:
    """Sample values between those of 8 bits are kept."""
    ramp = np.tile(np.linspace(64, 940, 64).astype(np.uint16), (48, 1))
    with av.open(tmp_path / "in.mkv", "w") as out:
        video: Any = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        picture = av.VideoFrame(64, 48, "yuv420p10le")
        for index, codes in enumerate((ramp, 512, 512)):
            samples_of(picture, index)[0][:] = codes
        out.mux(video.encode(picture))
        out.mux(video.encode(None))
    upscaled(tmp_path / "in.mkv", tmp_path / "out.mp4", VideoSettings(crf=1))
    luma, _ = samples_of(pictures_of(tmp_path / "out.mp4")[0], 0)
    assert np.abs(luma[48, 1::2].astype(int) - ramp[0]).max() <= 12
    assert len(np.unique(luma % 4)) == 4


def test_gray_stays_gray(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mkv", Film(range(0, 120, 40), Fraction(1, 1000), "ffv1", "gray"))
    assert upscaled(source, tmp_path / "out.mp4").format is PixelFormat.GRAY
    assert numbers_of(tmp_path / "out.mp4") == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "width", "form"),
    [
        (VideoSettings(), 64, PixelFormat.I420),
        (VideoSettings(pixel_format=PixelFormat.I444), 64, PixelFormat.I444),
        (VideoSettings(pixel_format=PixelFormat.I420_10), 64, PixelFormat.I420_10),
    ],
    ids=["default", "444", "10-bits"],
)
def test_rgb_becomes_420_unless_another_format_is_chosen(
    tmp_path: Path, settings: VideoSettings, width: int, form: PixelFormat
) -> None:
    film = Film(range(0, 120, 40), Fraction(1, 1000), "ffv1", "bgra", width, colour=(2, 0, 1, 13))
    source = shoot(tmp_path / "in.mkv", film)
    result = upscaled(source, tmp_path / "out.mp4", settings)
    assert result.format is form
    assert result.notes == (f"the RGB pixels are converted to {form}, BT.709", "its alpha channel is left out")
    picture = pictures_of(tmp_path / "out.mp4")[0]
    assert picture.format.name == form.value
    assert (picture.color_range, picture.colorspace) == (1, 1)


def test_rgb_of_odd_dimensions_becomes_444(tmp_path: Path) -> None:
    film = Film(range(0, 120, 40), Fraction(1, 1000), "ffv1", "bgr0", 65, 49, colour=(2, 0, 1, 13))
    result = upscaled(shoot(tmp_path / "in.mkv", film), tmp_path / "out.mp4", scale=3)
    assert (result.format, result.width) == (PixelFormat.I444, 195)


def test_odd_dimensions_become_even_with_scale_2(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mkv", Film(range(0, 120, 40), Fraction(1, 1000), "ffv1", width=65, height=49))
    result = upscaled(source, tmp_path / "out.mp4")
    assert (result.width, result.height) == (130, 98)


def test_odd_dimensions_that_stay_odd_need_vp9(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mkv", Film(range(0, 120, 40), Fraction(1, 1000), "ffv1", width=65, height=49))
    with raises(UsageError, found=(195, 147), wanted="even width and height"):
        plan_video(source, tmp_path / "out.mp4", 3)
    upscaled(source, tmp_path / "out.mp4", VideoSettings(VideoCodec.VP9), scale=3)
    assert (pictures_of(tmp_path / "out.mp4")[0].width, pictures_of(tmp_path / "out.mp4")[0].height) == (195, 147)


@pytest.mark.parametrize("codec", VideoCodec)
def test_every_codec_keeps_timestamps(tmp_path: Path, codec: VideoCodec) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN, width=96, height=80))
    result = upscaled(source, tmp_path / "out.mp4", VideoSettings(codec))
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "out.mp4") == list(range(len(UNEVEN)))
    assert codec.value in result.encoder.replace("vpx-", "").replace("x26", "h26")


def test_metadata_and_chapters_are_kept(tmp_path: Path) -> None:
    plain = shoot(tmp_path / "plain.mkv", Film(range(0, 480, 40), Fraction(1, 1000), audio="aac"))
    chapters = [{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "first"}}]
    with av.open(plain) as container, av.open(tmp_path / "in.mkv", "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        streams[1].metadata["language"] = "fin"
        out.metadata["title"] = "A film"
        out.set_chapters(chapters)
        for packet in container.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    plain.unlink()
    upscaled(tmp_path / "in.mkv", tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as container:
        assert container.metadata["title"] == "A film"
        assert container.streams.audio[0].language == "fin"
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "first"}]


@pytest.mark.parametrize(("frames", "numbers"), [("3:7", range(3, 7)), (":5", range(5)), ("9:", range(9, 14))])
def test_a_range_keeps_distances_and_starts_where_the_source_does(tmp_path: Path, frames: str, numbers: range) -> None:
    pts = [45_001 + time for time in UNEVEN]
    source = shoot(tmp_path / "in.mp4", Film(pts, audio="aac", subtitles=[(510, 400, "long"), (950, 50, "late")]))
    upscaled(source, tmp_path / "out.mp4", VideoSettings(frames=FrameRange.parse(frames)))
    shift = pts[numbers[0]] - pts[0]
    assert pts_of(tmp_path / "out.mp4") == (Fraction(1, 90_000), [pts[number] - shift for number in numbers])
    assert numbers_of(tmp_path / "out.mp4") == list(numbers)
    start = Fraction(pts[numbers[0]], 90_000)
    end = Fraction(pts[numbers[-1] + 1], 90_000) if numbers[-1] < 13 else Fraction(10**6)
    expected = [content for at, _, content in packets_of(source, "audio") if start <= at < end]
    assert [content for _, _, content in packets_of(tmp_path / "out.mp4", "audio")] == expected


def test_a_subtitle_displayed_at_the_start_of_the_range_is_trimmed(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(0, 90_000, 9000), subtitles=[(50, 400, "long"), (700, 50, "late")]))
    upscaled(source, tmp_path / "out.mp4", VideoSettings(frames=FrameRange.parse("2:6")))
    packets = packets_of(tmp_path / "out.mp4", "subtitle")
    assert [(int(1000 * start), int(1000 * duration)) for start, duration, _ in packets] == [(0, 250)]


@pytest.mark.parametrize("text", ["5", "a:b", "5:5", "7:3", "-1:4", "1:2:3"])
def test_invalid_ranges_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        FrameRange.parse(text)
    assert caught.value.found == text and "FIRST:END" in str(caught.value.wanted)


def test_a_range_after_the_end_is_refused(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    with raises(FrameError, found="12:20", wanted=range(12)):
        upscaled(source, tmp_path / "out.mp4", VideoSettings(frames=FrameRange(12, 20)))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_network_upscales_the_frames(session: Session, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN, audio="aac"))
    done: list[tuple[int, int]] = []
    job = plan_video(source, tmp_path / "out.mp4", 2)
    upscaler = NetworkFrameUpscaler(session, session.spec.slots)
    upscale_video(job, upscaler, lambda number, total: done.append((number, total)))
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)
    assert numbers_of(tmp_path / "out.mp4") == list(range(len(UNEVEN)))
    assert done[:-1] == [(number, len(UNEVEN)) for number in range(1, len(UNEVEN) + 1)]
    assert done[-1] == done[-2]

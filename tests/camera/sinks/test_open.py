"""What is written can be played, with the same times, colours and sound; what cannot be is one clear line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sr_edge.camera import Colour, ColourRange, PixelFormat, Sink, SinkOptions, VideoFrame, open_sink, open_source
from sr_edge.camera.media.codecs import CodecVerdict
from sr_edge.camera.media.ffmpeg_errors import remedy_of
from sr_edge.camera.sinks.encoded import EncodedSink, StreamEncoding
from sr_edge.camera.sinks.open import require_encodable
from sr_edge.errors import StreamError, UsageError
from tests.camera.clips import HEIGHT, WIDTH, flat_frame, read_clip, times_of, write_clip
from tests.camera.fakes import TIMEOUT_S, ListSource
from tests.camera.films import Film, shoot
from tests.expected_errors import raises

UNEVEN = [0, 3003, 9009, 12012, 12013, 30000, 90000, 93003]


def sink_to(path: Path, is_live: bool = False, options: SinkOptions | None = None) -> Sink:
    return open_sink(str(path), ListSource([], is_live), options)


def write(sink: Sink, frames: list[VideoFrame]) -> None:
    for frame in frames:
        sink.write(frame)
    sink.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".ts", ".nut"])
@pytest.mark.parametrize("is_live", [False, True], ids=["file", "live"])
def test_times_are_exact(tmp_path: Path, suffix: str, is_live: bool) -> None:
    out = tmp_path / f"out{suffix}"
    frames = [flat_frame(number, pts=pts) for number, pts in enumerate(UNEVEN)]
    frames = [VideoFrame(f.planes, f.format, f.colour, f.pts, Fraction(1, 90_000), 0, f.sequence) for f in frames]
    write(sink_to(out, is_live), frames)
    assert times_of(read_clip(out)) == [Fraction(time, 90_000) for time in UNEVEN]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_short_streams_are_whole(tmp_path: Path, codec: str, count: int) -> None:
    write(
        sink_to(tmp_path / "out.mp4", options=SinkOptions(codec)),
        [flat_frame(number, pts=number) for number in range(count)],
    )
    assert times_of(read_clip(tmp_path / "out.mp4")) == [Fraction(number, 30) for number in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_comes_along_and_moves_no_frame(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 80, 120, 160]
    clip = write_clip(tmp_path / "in.mkv", times, time_base=Fraction(1, 1000), audio_s=0.25)
    source = open_source(str(clip))
    out = tmp_path / f"out{suffix}"
    sink = open_sink(str(out), source)
    write(sink, list(source.frames()))
    assert times_of(read_clip(out)) == [Fraction(time, 1000) for time in times]
    assert tone_of(out) == tone_of(clip)


def tone_of(path: Path) -> tuple[float, list[float]]:
    """Where the sound starts, to 25 ms, and its loudness in steps."""
    with av.open(path) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    samples = np.concatenate(blocks)[: 48_000 // 5]
    steps = samples[: len(samples) // 2400 * 2400].reshape(-1, 2400)
    return 0.0, [round(float(np.abs(step).mean()), 1) for step in steps]


@pytest.mark.parametrize(
    ("pixel_format", "written"),
    [
        (PixelFormat.I420, "yuv420p"),
        (PixelFormat.NV12, "nv12|yuv420p"),
        (PixelFormat.I444, "yuv444p"),
        (PixelFormat.I420_10, "yuv420p10le"),
        (PixelFormat.P010, "yuv420p10le"),
        (PixelFormat.RGB, "yuv420p"),
        (PixelFormat.RGB_16, "yuv420p10le"),
    ],
)
def test_formats_and_colour_are_kept(tmp_path: Path, pixel_format: PixelFormat, written: str) -> None:
    frame = flat_frame(3, pts=0, pixel_format=pixel_format)
    colour = Colour(ColourRange.FULL, 9, 9, 16)
    if not pixel_format.is_rgb:
        frame = frame.with_planes(frame.planes, colour=colour)
    write(sink_to(tmp_path / "out.mp4"), [frame])
    (picture,) = read_clip(tmp_path / "out.mp4")
    assert picture.format.name.replace("yuvj", "yuv") in written.split("|")
    if not pixel_format.is_rgb:
        tags = (picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc)
        assert tags == (2, 9, 9, 16)


def test_a_stream_that_changes_its_size_stays_one_file(tmp_path: Path) -> None:
    large = VideoFrame(
        tuple(plane.repeat(2, 0).repeat(2, 1) for plane in flat_frame(5).planes),
        PixelFormat.I420,
        flat_frame(5).colour,
        pts=1,
        time_base=Fraction(1, 30),
    )
    sink = EncodedSink(StreamEncoding(str(tmp_path / "out.mp4")))
    write(sink, [flat_frame(4, pts=0), large, flat_frame(6, pts=2, pixel_format=PixelFormat.NV12)])
    pictures = read_clip(tmp_path / "out.mp4")
    assert {(picture.width, picture.height) for picture in pictures} == {(WIDTH, HEIGHT)}
    assert [round((np.frombuffer(p.planes[0], np.uint8)[:WIDTH].mean() - 20) / 8) for p in pictures] == [4, 5, 6]
    assert sink.resized_frames == 1


def test_a_recording_is_playable_while_it_is_written(tmp_path: Path) -> None:
    """As it is after the program was killed."""
    sink = sink_to(
        tmp_path / "out.mp4", is_live=True, options=SinkOptions(codec_options={"g": "5", "tune": "zerolatency"})
    )
    for number in range(40):
        sink.write(flat_frame(number, pts=number))
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "out.mp4").read_bytes())
    sink.close()
    assert len(read_clip(tmp_path / "copy.mp4")) >= 10
    assert len(read_clip(tmp_path / "out.mp4")) == 40


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".nut"])
def test_of_a_slow_recording_all_but_the_last_second_plays(tmp_path: Path, suffix: str, codec: str) -> None:
    """The source announces 30 frames a second and three come through: as a file is after the program was killed."""
    out, copy = tmp_path / f"out{suffix}", tmp_path / f"copy{suffix}"
    sink = sink_to(out, is_live=True, options=SinkOptions(codec))
    for number in range(30):
        sink.write(flat_frame(number, pts=10 * number))
    copy.write_bytes(out.read_bytes())
    sink.close()
    written_s = 29 / 3
    begun_s = times_of(read_clip(copy))[0]
    assert times_of(read_clip(copy))[-1] - begun_s >= written_s - 1.5
    assert len(read_clip(out)) == 30


def test_a_sink_without_a_frame_closes(tmp_path: Path) -> None:
    sink_to(tmp_path / "out.mp4").close()


def test_raw_frames_are_plane_after_plane() -> None:
    reading, writing = os.pipe()
    content = bytearray()

    def read_all() -> None:
        while part := os.read(reading, 1 << 16):
            content.extend(part)

    reader = threading.Thread(target=read_all)
    reader.start()
    sink = open_sink("-", ListSource([]), stdout=writing)
    frame = flat_frame(3, pixel_format=PixelFormat.NV12)
    smaller = frame.cropped(0, 0, 32, 24)
    write(sink, [frame, smaller])
    os.close(writing)
    reader.join(TIMEOUT_S)
    os.close(reading)
    once = b"".join(plane.tobytes() for plane in frame.planes)
    assert bytes(content) == once * 2, "the smaller one is brought to the size of the first"


def test_raw_frames_into_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = open_sink("-", ListSource([]), stdout=writing)
    with raises(StreamError, found="standard output", remedy=remedy_of(OSError(errno.EPIPE, ""))):
        sink.write(flat_frame(0))
    os.close(writing)


def test_null_takes_everything() -> None:
    write(open_sink("null", ListSource([])), [flat_frame(0)])


def test_two_streams_are_not_recorded_to_one_file(tmp_path: Path) -> None:
    """The second one is refused when it is opened, or with its first frame if both were opened before."""
    out = tmp_path / "out.mkv"
    first, second = sink_to(out), sink_to(out)
    first.write(flat_frame(0, pts=0))
    with raises(StreamError, found=str(out), remedy=remedy_of(OSError(errno.EBUSY, ""))):
        second.write(flat_frame(1, pts=0))
    with raises(StreamError, found=str(out)):
        second.close()
    with raises(UsageError, found=out, wanted="a file of its own"):
        sink_to(out)
    first.write(flat_frame(2, pts=3000))
    first.close()
    assert len(read_clip(out)) == 2
    write(sink_to(out), [flat_frame(3, pts=0)])
    assert len(read_clip(out)) == 1


def test_a_full_disk_is_named() -> None:
    sink = EncodedSink(StreamEncoding("/dev/full", container="mpegts"))
    noise = np.random.default_rng(3)
    with raises(StreamError, found="/dev/full", remedy=remedy_of(OSError(errno.ENOSPC, ""))):
        for number in range(500):
            frame = flat_frame(number, pts=number)
            luma = noise.integers(0, 256, frame.planes[0].shape, np.uint8)
            sink.write(frame.with_planes((luma, *frame.planes[1:])))


def test_a_disk_that_fills_up_leaves_a_file_that_plays(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
import numpy as np
from sr_edge.camera import open_sink
from sr_edge.errors import StreamError
from tests.camera.clips import flat_frame
from tests.camera.fakes import ListSource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
sink = open_sink(sys.argv[1], ListSource([], is_live=True))
noise = np.random.default_rng(3)
try:
    for number in range(1000):
        frame = flat_frame(number, pts=number)
        luma = noise.integers(0, 256, frame.planes[0].shape, np.uint8)
        sink.write(frame.with_planes((luma, *frame.planes[1:])))
except StreamError as error:
    print(error)
try:
    sink.close()
except StreamError as error:
    print("closing:", error)
"""
    out = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{out}: {os.strerror(errno.EFBIG)}" in done.stdout
    with av.open(out) as container:
        assert next(container.decode(video=0)).width == WIDTH


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".avi"])
def test_a_disk_that_is_full_for_the_last_bytes_is_named(tmp_path: Path, suffix: str) -> None:
    """FFmpeg's writer of fragmented MP4 says nothing when the fragment that `close` writes finds no room."""
    program = """
import resource, signal, sys
from sr_edge.camera import SinkOptions, open_sink
from sr_edge.errors import StreamError
from tests.camera.clips import flat_frame
from tests.camera.fakes import ListSource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
sink = open_sink(sys.argv[1], ListSource([], is_live=False), SinkOptions(on_event=print))
try:
    for number in range(3):
        sink.write(flat_frame(number, pts=number))
finally:
    sink.close()
"""
    out = tmp_path / f"out{suffix}"
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, "written to a full disk without a word"
    assert f"StreamError: {out}: {os.strerror(errno.EFBIG)}" in done.stderr
    if out.exists():
        assert read_clip(out), "what is left plays"
    else:
        assert done.stdout.startswith(f"{out}: ") and done.stdout.count("\n") == 1, "one event says so"


def test_a_file_that_may_not_be_written_stays(tmp_path: Path, bound_by_rights: list[str]) -> None:
    """Here opened without the question that `open_sink` asks before: rights may change meanwhile."""
    program = """
import sys
from sr_edge.camera.sinks.encoded import EncodedSink, StreamEncoding
from tests.camera.clips import flat_frame
sink = EncodedSink(StreamEncoding(sys.argv[1]))
try:
    sink.write(flat_frame(0, pts=0))
finally:
    sink.close()
"""
    notes = tmp_path / "notes.ts"
    notes.write_text("const answer = 42")
    notes.chmod(0o444)
    command = [*bound_by_rights, sys.executable, "-c", program, str(notes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"StreamError: {notes}: {os.strerror(errno.EACCES)}" in done.stderr
    assert notes.read_text() == "const answer = 42"


@pytest.mark.parametrize(("name", "found"), [("out.txt", ".txt"), ("out", ""), ("gopher://x", "gopher")])
def test_what_is_no_sink(name: str, found: str) -> None:
    with raises(UsageError, found=found):
        open_sink(name, ListSource([]))


def test_a_file_in_an_absent_folder(tmp_path: Path) -> None:
    with raises(UsageError, found=tmp_path / "absent"):
        open_sink(str(tmp_path / "absent" / "out.mp4"), ListSource([]))


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 3000])
    with raises(UsageError, found=clip):
        open_sink(str(clip), open_source(str(clip)))
    assert len(read_clip(clip)) == 2


def test_a_server_that_is_not_there() -> None:
    refused = remedy_of(OSError(errno.ECONNREFUSED, ""))
    with raises(StreamError, found="rtsp://***@127.0.0.1:1/live", remedy=refused) as caught:
        sink = open_sink("rtsp://admin:hunter2@127.0.0.1:1/live", ListSource([], is_live=True))
        try:
            sink.write(flat_frame(0, pts=0))
        finally:
            sink.close()
    assert "hunter" not in repr(vars(caught.value))


def test_a_server_that_stalls_is_lost(tmp_path: Path) -> None:
    """Here a file on which everything takes too long: a real server takes what fits into its sockets, and longer."""
    sink = EncodedSink(StreamEncoding(str(tmp_path / "out.ts"), timeout_s=0.0))
    with raises(StreamError, wanted=0.0) as caught:
        sink.write(flat_frame(0, pts=0))
    sink.close()
    assert caught.value.problem.startswith(f"{sink.name}: ")


def sized(width: int, height: int) -> VideoFrame:
    pixel_format = PixelFormat.I420
    return VideoFrame(
        tuple(np.zeros(layout.shape(height, width), np.uint8) for layout in pixel_format.layout), pixel_format, pts=0
    )


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((16_386, 16), (16_384, 16_384)), ((33, 16), (32, 16)), ((32, 17), (32, 16))],
    ids=["large", "odd-width", "odd-height"],
)
def test_a_size_that_the_encoder_cannot_hold(tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    sink = sink_to(tmp_path / "out.mp4")
    with raises(StreamError, found=size, wanted=wanted):
        sink.write(sized(*size))
    sink.close()


def test_an_unknown_encoder(tmp_path: Path) -> None:
    with raises(StreamError, found="libx999") as caught:
        sink_to(tmp_path / "out.mp4", options=SinkOptions("libx999"))
    assert "libx264, libx265" in str(caught.value.remedy)


def test_an_encoder_that_refuses_the_frames_says_why(tmp_path: Path) -> None:
    text, options = str(tmp_path / "out.mkv"), SinkOptions("mjpeg")
    require_encodable(text, options, PixelFormat.I420, WIDTH, HEIGHT, Colour(ColourRange.FULL))
    with pytest.raises(StreamError) as caught:
        require_encodable(text, options, PixelFormat.I420, WIDTH, HEIGHT, Colour(ColourRange.LIMITED))
    assert "strict" in str(caught.value.found), "FFmpeg names the option"


def test_a_hardware_encoder_that_does_not_open_leaves_no_file(tmp_path: Path, absent_encoder: CodecVerdict) -> None:
    options = SinkOptions(absent_encoder.name)
    with raises(StreamError, found=absent_encoder.reason):
        require_encodable(str(tmp_path / "out.mp4"), options, PixelFormat.I420, WIDTH, HEIGHT)
    sink = sink_to(tmp_path / "out.mp4", options=options)
    with pytest.raises(StreamError):
        sink.write(flat_frame(0, pts=0))
    sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("codec", "name"), [("mpeg4", "mpeg4"), ("libsvtav1", "av1"), ("mjpeg", "mjpeg")])
def test_any_encoder_by_its_name(tmp_path: Path, codec: str, name: str) -> None:
    events: list[str] = []
    settings = {"strict": "unofficial"} if codec == "mjpeg" else {}  # otherwise it takes the full range only
    out, options = tmp_path / "out.mkv", SinkOptions(codec, settings, on_event=events.append)
    require_encodable(str(out), options, PixelFormat.NV12, WIDTH, HEIGHT)
    write(sink_to(out, options=options), [flat_frame(number, number, PixelFormat.NV12) for number in range(3)])
    assert len(read_clip(out)) == 3
    with av.open(out) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == name
    assert len(events) == (codec != "libsvtav1"), "the bit rate of an encoder without a known quality is an event"


def test_a_wrong_setting_of_the_encoder(tmp_path: Path) -> None:
    with raises(StreamError, found={"preset": "warp"}):
        sink_to(tmp_path / "out.mp4", options=SinkOptions(codec_options={"preset": "warp"}))
    with raises(UsageError, found="999", wanted=range(52)):
        sink_to(tmp_path / "out.mp4", options=SinkOptions(codec_options={"crf": "999"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_setting_that_the_encoder_does_not_have(tmp_path: Path, suffix: str) -> None:
    options = {"crff": "20", "preset": "fast"}
    with raises(StreamError, found=options):
        sink_to(tmp_path / f"out{suffix}", options=SinkOptions(codec_options=options))
    assert list(tmp_path.iterdir()) == [], "and nothing is left behind"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_aspect_ratio_of_the_pixels_is_kept(tmp_path: Path, suffix: str) -> None:
    """Recordings of standard definition have the same size for 4:3 and 16:9."""
    source = open_source(str(shoot(tmp_path / "in.mp4", Film(aspect=Fraction(16, 11)))))
    write(open_sink(str(tmp_path / f"out{suffix}"), source), list(source.frames()))
    with av.open(tmp_path / f"out{suffix}") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("requested", "written"), [(None, "yuv420p"), (PixelFormat.I444, "yuv444p")])
def test_rgb_becomes_420_unless_another_format_is_chosen(
    tmp_path: Path, requested: PixelFormat | None, written: str
) -> None:
    events: list[str] = []
    options = SinkOptions(pixel_format=requested, on_event=events.append)
    frame = flat_frame(3, pts=0, pixel_format=PixelFormat.RGB)
    write(sink_to(tmp_path / "out.mp4", options=options), [frame])
    assert read_clip(tmp_path / "out.mp4")[0].format.name == written
    assert len(events) == (requested is None)

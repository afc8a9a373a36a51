"""Every kind of source that needs no network, and each way in which one cannot be opened: one clear line."""

from __future__ import annotations

import errno
import os
import sys
import threading
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sr_edge.camera import PixelFormat, RawFormat, SourceOptions, VideoFrame, open_source
from sr_edge.camera.media.codecs import CodecKind, hardware_codecs, try_codecs
from sr_edge.camera.media.ffmpeg_errors import reason_of, remedy_of, stream_errors
from sr_edge.camera.media.frame import ColourRange
from sr_edge.camera.sources.connection import FFmpegInput
from sr_edge.camera.sources.ffmpeg import FFmpegSource, frame_rate
from sr_edge.camera.sources.reconnect import ReconnectingSource
from sr_edge.errors import FrameError, RuntimeUnavailable, SrEdgeError, StreamError, UsageError
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from tests.camera.clips import HEIGHT, WIDTH, flat_frame, number_of, write_clip
from tests.camera.fakes import TIMEOUT_S
from tests.expected_errors import raises

RAW = RawFormat.parse(f"nv12:{WIDTH}x{HEIGHT}@25")


def all_frames(text: str | Path, options: SourceOptions | None = None) -> list[VideoFrame]:
    return list(open_source(str(text), options).frames())


def test_a_file_with_its_times_colour_and_audio(tmp_path: Path) -> None:
    times = [0, 3003, 9009, 9010]
    source = open_source(str(write_clip(tmp_path / "clip.mp4", times, audio_s=0.2)))
    assert isinstance(source, FFmpegSource)
    frames = list(source.frames())
    assert not source.is_live
    assert [frame.pts for frame in frames] == times
    assert [frame.time_base for frame in frames] == [Fraction(1, 90_000)] * 4
    assert [number_of(frame) for frame in frames] == [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert {(frame.colour.matrix, frame.colour.range) for frame in frames} == {(1, ColourRange.LIMITED)}
    assert source.info.passthrough is not None
    assert len(list(source.info.passthrough.take_until(None))) > 5


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv420p10le"), ("ffv1", "yuv444p"), ("ffv1", "gray"), ("libx265", "yuv420p10le")],
)
def test_files_keep_their_pixel_format(tmp_path: Path, codec: str, pixel_format: str) -> None:
    frames = all_frames(
        write_clip(tmp_path / "clip.mkv", [0, 40], time_base=Fraction(1, 1000), codec=codec, pixel_format=pixel_format)
    )
    assert {frame.format for frame in frames} == {PixelFormat(pixel_format)}
    assert [frame.pts for frame in frames] == [0, 40]


@pytest.mark.parametrize("is_live", [False, True], ids=["file", "live"])
def test_a_pixel_format_that_is_not_read_is_one_error_with_the_name(tmp_path: Path, is_live: bool) -> None:
    clip = write_clip(tmp_path / "clip.nut", [0, 40], codec="rawvideo", pixel_format="bayer_rggb8")
    events: list[str] = []
    address = FFmpegInput(str(clip), is_live=is_live)
    source = FFmpegSource(address)
    frames = (
        ReconnectingSource(source, lambda lost: FFmpegSource(address, lost), on_event=events.append)
        if is_live
        else source
    )
    with raises(FrameError, found="bayer_rggb8") as caught:
        list(frames.frames())
    assert caught.value.problem.startswith(f"{clip}: ")
    assert events == []


def test_a_test_pattern_is_live_and_a_graph_is_not() -> None:
    pattern = open_source("test:64x48@25")
    assert pattern.is_live
    for frame in pattern.frames():
        assert (frame.width, frame.height, frame.format) == (64, 48, PixelFormat.I420)
        pattern.close()
    graph = "lavfi:testsrc=size=64x48:rate=10:duration=0.5,format=rgb24"
    frames = all_frames(graph)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert {frame.format for frame in frames} == {PixelFormat.RGB}
    assert not open_source(graph).is_live
    assert open_source(graph, SourceOptions(is_paced=True)).is_live


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(np.full((8, 10, 1), 90, np.uint8)))
    write_picture(tmp_path / "b.png", Picture(np.full((6, 4, 3), 40_000, np.uint16)))
    gray, deep = all_frames(tmp_path, SourceOptions(rate=Fraction(10)))
    assert (gray.format, gray.width, gray.time_s) == (PixelFormat.RGB, 10, 0)
    assert (deep.format, deep.width, deep.time_s) == (PixelFormat.RGB_16, 4, 0.1)
    assert (deep.planes[0] == 40_000).all()


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (SourceOptions(), 30),
        (SourceOptions(rate=Fraction(10)), 10),
        (SourceOptions(rate=Fraction(30000, 1001)), Fraction(30000, 1001)),
        (SourceOptions(ffmpeg={"framerate": "10"}), 10),
    ],
    ids=["usual", "rate", "ntsc", "framerate"],
)
def test_numbered_pictures(tmp_path: Path, options: SourceOptions, rate: Fraction) -> None:
    for number in range(3):
        write_picture(tmp_path / f"p{number:03d}.png", Picture(np.full((8, 10, 3), 50 * number, np.uint8)))
    frames = all_frames(tmp_path / "p%03d.png", options)
    assert [int(frame.planes[0].max()) for frame in frames] == [0, 50, 100]
    assert [frame.time_s for frame in frames] == pytest.approx([float(number / Fraction(rate)) for number in range(3)])


@pytest.mark.parametrize("text", ["test:64x48@30", "lavfi:testsrc2=size=64x48:rate=30"])
def test_a_rate_that_is_part_of_the_description_is_not_given_again(text: str) -> None:
    with raises(UsageError, found=Fraction(10)):
        open_source(text, SourceOptions(rate=Fraction(10)))


def test_a_rate_is_not_for_a_source_that_has_one(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 3000, 6000])
    with raises(UsageError, found=Fraction(10), wanted=Fraction(30)):
        open_source(str(clip), SourceOptions(rate=Fraction(10)))
    with raises(UsageError, found=Fraction(10)):
        open_source("-", SourceOptions(raw=RAW, rate=Fraction(10)))


@pytest.mark.parametrize("suffix", [".mjpeg", ".h264"])
def test_files_of_pictures_without_times_have_the_rate_that_is_given(tmp_path: Path, suffix: str) -> None:
    codec = {".mjpeg": "mjpeg", ".h264": "libx264"}[suffix]
    pixel_format = {".mjpeg": "yuvj420p"}.get(suffix, "yuv420p")
    clip = write_clip(tmp_path / f"clip{suffix}", range(0, 12_000, 3000), codec=codec, pixel_format=pixel_format)
    rate = Fraction(30_000, 1001)
    source = open_source(str(clip), SourceOptions(rate=rate))
    assert source.info.rate == rate
    frames = list(source.frames())
    assert len(frames) == 4
    assert [(frame.pts or 0) * frame.time_base for frame in frames] == [number / rate for number in range(4)]


class MjpegCamera(BaseHTTPRequestHandler):
    """Sends the same JPEG over and over, as network cameras do: without a rate and without times."""

    jpeg = b""
    frames = 4

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        header = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.jpeg)
        self.wfile.write((header + self.jpeg + b"\r\n") * self.frames)

    def log_message(self, *arguments: object) -> None: ...


@pytest.mark.parametrize("rate", [Fraction(10), None])
def test_mjpeg_over_http_has_the_rate_that_is_given_or_the_times_of_arrival(
    tmp_path: Path, rate: Fraction | None
) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(tmp_path / "frame.jpg")
    camera = type("Camera", (MjpegCamera,), {"jpeg": (tmp_path / "frame.jpg").read_bytes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        source = open_source(url, SourceOptions(rate=rate, reconnects=False))
        assert (source.is_live, source.info.rate) == (True, rate)
        frames = list(source.frames())
        server.shutdown()
    assert len(frames) == MjpegCamera.frames
    times = [(frame.pts or 0) * frame.time_base for frame in frames]
    if rate is not None:
        assert times == [number / rate for number in range(len(frames))]
        return
    elapsed_s = [Fraction(frame.captured_ns - frames[0].captured_ns, 10**9) for frame in frames]
    assert all(
        abs(time - elapsed) <= Fraction(len(frames), 90_000) for time, elapsed in zip(times, elapsed_s, strict=True)
    )


@pytest.mark.parametrize("decoder", ["h264", "libdav1d"])
def test_a_decoder_by_its_name(tmp_path: Path, decoder: str) -> None:
    if decoder not in av.codecs_available:
        pytest.skip(f"{decoder}: not in this build of FFmpeg")
    codec = {"h264": "libx264", "libdav1d": "libsvtav1"}[decoder]
    clip = write_clip(tmp_path / "clip.mp4", range(0, 18_000, 3000), codec=codec)
    by_name, usual = all_frames(clip, SourceOptions(decoder=decoder)), all_frames(clip)
    assert [frame.pts for frame in by_name] == [frame.pts for frame in usual]
    for frame, other in zip(by_name, usual, strict=True):
        np.testing.assert_array_equal(frame.planes[0], other.planes[0])


@pytest.mark.parametrize(("decoder", "found"), [("hevc", "hevc"), ("h264_nosuch", "h264_nosuch"), ("aac", "aac")])
def test_a_decoder_that_cannot_decode_the_source(tmp_path: Path, decoder: str, found: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0, 3000])
    with raises(StreamError, found=found):
        open_source(str(clip), SourceOptions(decoder=decoder))


def test_a_hardware_decoder_without_its_hardware_is_refused_with_the_reason(tmp_path: Path) -> None:
    trials = [trial for trial in hardware_codecs() if trial.kind is CodecKind.DECODER and trial.name.startswith("h264")]
    absent = next((verdict for verdict in try_codecs(trials) if verdict.works is False), None)
    if absent is None:
        pytest.skip("every hardware decoder of H.264 works here, or this build of FFmpeg has none")
    with raises(StreamError, found=absent.reason):
        open_source(str(write_clip(tmp_path / "clip.mp4", [0, 3000])), SourceOptions(decoder=absent.name))


@pytest.mark.parametrize("text", ["gst:fakesrc", "PICTURES"])
def test_a_decoder_of_ffmpeg_is_not_for_what_ffmpeg_does_not_decode(tmp_path: Path, text: str) -> None:
    with raises(UsageError):
        open_source(str(tmp_path) if text == "PICTURES" else text, SourceOptions(decoder="h264"))


def test_a_rate_is_given_once(tmp_path: Path) -> None:
    with raises(UsageError, found=(Fraction(10), "10")):
        open_source(str(tmp_path / "p%03d.png"), SourceOptions(rate=Fraction(10), ffmpeg={"framerate": "10"}))


def write_raw(path: Path, numbers: range, cut_bytes: int = 0) -> None:
    content = b"".join(
        plane.tobytes() for n in numbers for plane in flat_frame(n, pixel_format=PixelFormat.NV12).planes
    )
    with path.open("wb") as file:
        file.write(content[: len(content) - cut_bytes])


def test_raw_frames_from_a_named_pipe_whose_writer_comes_late(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = open_source(str(pipe), SourceOptions(raw=RAW))
    writer = threading.Thread(target=write_raw, args=(pipe, range(4)))
    writer.start()
    frames = list(source.frames())
    writer.join(TIMEOUT_S)
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 3]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12])
    assert frames[0].format is PixelFormat.NV12


def test_a_named_pipe_that_is_never_written_to_can_be_closed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = open_source(str(pipe), SourceOptions(raw=RAW))
    frames: list[VideoFrame] = []
    reading = threading.Thread(target=lambda: frames.extend(source.frames()))
    reading.start()
    source.close()
    reading.join(TIMEOUT_S)
    assert not reading.is_alive()
    assert frames == []
    source.close()


def test_a_pipe_with_a_header_needs_no_format(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", [0, 40, 80], time_base=Fraction(1, 1000))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()))
    writer.start()
    assert [number_of(frame) for frame in all_frames(pipe)] == [0, 1, 2]
    writer.join(TIMEOUT_S)


def test_raw_frames_that_end_in_the_middle_say_so(tmp_path: Path) -> None:
    write_raw(tmp_path / "cut.raw", range(3), cut_bytes=100)
    source = open_source(str(tmp_path / "cut.raw"), SourceOptions(raw=RAW))
    frames: list[VideoFrame] = []
    with raises(StreamError, found=4508, wanted=4608):
        frames.extend(source.frames())
    assert RAW.frame_bytes == 4608


@pytest.mark.parametrize("text", ["", "nv12:320x180", "nv12:0x180@30", "bayer:4x4@30", "nv12:4x4@0", "nv12:4x4@1/0"])
def test_what_is_no_raw_format_is_refused(text: str) -> None:
    with raises(UsageError, found=text):
        RawFormat.parse(text)


@pytest.mark.parametrize("text", ["0", "-3", "x", "30/0", "nan", "1e300", "1e-300", "10001"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with raises(UsageError, found=text):
        frame_rate(text)


@pytest.mark.parametrize("text", ["1/86400", "29.97002997002997002997", "9999.123456789012345", "10000"])
def test_rates_fit_the_32_bits_of_ffmpeg(text: str) -> None:
    rate = frame_rate(text)
    assert max(rate.numerator, rate.denominator) < 2**31
    assert float(rate) == pytest.approx(float(Fraction(text)), rel=1e-6)


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "sound":
        with av.open(path, "w") as container:
            audio: Any = container.add_stream("aac", rate=48_000)
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate = 48_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    elif kind != "absent":
        path.write_bytes({"empty": b"", "text": b"hello, I am a text file " * 50}[kind])
    return path


@pytest.mark.parametrize("kind", ["absent", "empty", "text", "sound"])
def test_a_file_that_cannot_be_shown(tmp_path: Path, kind: str) -> None:
    path = bad_file(tmp_path, kind)
    fields: dict[str, dict[str, object]] = {
        "absent": {"found": path},
        "empty": {"found": 0},
        "text": {"found": str(path), "remedy": remedy_of(av.error.InvalidDataError(0, ""))},
        "sound": {"found": ["audio"], "wanted": "video"},
    }
    with raises(StreamError, **fields[kind]) as caught:
        open_source(str(path))
    assert str(path) in caught.value.problem


@pytest.mark.parametrize(
    ("text", "error", "fields"),
    [
        ("/dev/video99", StreamError, {"found": Path("/dev/video99")}),
        ("/dev/null", StreamError, {"found": "/dev/null", "remedy": remedy_of(OSError(errno.ENOTTY, ""))}),
        ("gopher://somewhere", UsageError, {"found": "gopher"}),
        (
            "rtsp://127.0.0.1:1/live",
            StreamError,
            {"found": "rtsp://127.0.0.1:1/live", "remedy": remedy_of(OSError(errno.ECONNREFUSED, ""))},
        ),
        ("test:64", UsageError, {"found": "test:64"}),
        ("test:64x48@1/0", UsageError, {"found": "test:64x48@1/0"}),
        ("test:0x48@30", UsageError, {"found": (0, 48, 30)}),
        (
            "lavfi:no_such_filter",
            StreamError,
            {"found": "no_such_filter", "remedy": remedy_of(av.error.FilterNotFoundError(0, ""))},
        ),
    ],
)
def test_what_is_no_source(text: str, error: type[SrEdgeError], fields: dict[str, object]) -> None:
    with raises(error, **fields):
        open_source(text)


def test_a_pipeline_where_the_bindings_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.delitem(sys.modules, "sr_edge.camera.sources.gst.source", raising=False)
    monkeypatch.delitem(sys.modules, "sr_edge.camera.sources.gst.bindings", raising=False)
    with raises(RuntimeUnavailable, found=sys.executable, wanted=("PyGObject", "GStreamer")):
        open_source("gst:videotestsrc")


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with raises(StreamError, found=tmp_path):
        open_source(str(tmp_path))


def test_a_damaged_picture_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with raises(FrameError, found=tmp_path / "a.png"):
        all_frames(tmp_path)


def test_of_a_folder_of_pictures_all_is_told_that_is_left_out(tmp_path: Path) -> None:
    clear = np.zeros((8, 10), np.uint8)
    clear[:, :5] = 255
    white = np.where(clear[..., np.newaxis] > 0, 255, np.zeros((8, 10, 3))).astype(np.uint8)
    write_picture(tmp_path / "a.png", Picture(white, clear))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    Image.fromarray(white).save(tmp_path / "c.bmp")
    (tmp_path / "notes.txt").write_text("no picture")
    events: list[str] = []
    source = open_source(str(tmp_path), SourceOptions(on_event=events.append))
    sprite, plain = source.frames()
    assert (sprite.planes[0] == 255).all(), "black is hidden under the transparent pixels"
    assert (plain.planes[0][:, 5:] == 0).all()
    assert source.unreadable_packets == 1
    wanted = ("notes.txt", "b.png", "alpha channel")
    assert [part for part in wanted if not any(part in event for event in events)] == []


def test_errors_hold_no_secret_nor_does_what_is_behind_them() -> None:
    address = "rtsp://admin:hunter2@127.0.0.1:1/live?token=hunter3"
    with raises(StreamError) as caught:
        open_source(address)
    assert "hunter" not in repr(vars(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, av.error.HTTPUnauthorizedError),
        (403, av.error.HTTPForbiddenError),
        (404, av.error.HTTPNotFoundError),
        (500, av.error.HTTPServerError),
    ],
)
def test_a_server_that_refuses(status: int, kind: type[av.error.HTTPError]) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            place = f"127.0.0.1:{server.server_port}/live"
            with raises(StreamError, found=f"http://***@{place}", remedy=remedy_of(kind(status, ""))) as caught:
                open_source(f"http://admin:hunter2@{place}")
        finally:
            server.shutdown()
            serving.join(TIMEOUT_S)
    assert "hunter" not in repr(vars(caught.value))


def test_a_file_on_a_server_is_no_live_stream(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", [0, 3000, 9000])

    class Serving(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    handler = partial(Serving, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            source = open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4")
            frames = list(source.frames())
        finally:
            server.shutdown()
            serving.join(TIMEOUT_S)
    assert not source.is_live
    assert [frame.pts for frame in frames] == [0, 3000, 9000]


ADVISED = [
    av.error.PermissionError(errno.EACCES, "Permission denied"),
    av.error.OSError(errno.EBUSY, "Device or resource busy"),
    av.error.OSError(errno.ENOSPC, "No space left on device"),
    av.error.ExitError(1, "Immediate exit requested"),
    av.error.HTTPUnauthorizedError(401, "Unauthorized"),
    av.error.HTTPForbiddenError(403, "Forbidden"),
    av.error.HTTPNotFoundError(404, "Not Found"),
    av.error.HTTPServerError(500, "Server Error"),
]


@pytest.mark.parametrize("error", ADVISED, ids=lambda error: type(error).__name__)
def test_what_goes_wrong_comes_with_advice_of_its_own(error: av.error.FFmpegError) -> None:
    with raises(StreamError, found="camera", remedy=remedy_of(error)) as caught, stream_errors("camera"):
        raise error
    assert caught.value.problem == f"camera: {reason_of(error)}"
    assert caught.value.remedy
    assert [remedy_of(other) for other in ADVISED].count(caught.value.remedy) == 1


def test_a_timeout_of_our_own_is_not_named_as_ffmpeg_names_it() -> None:
    assert "exit" not in reason_of(av.error.ExitError(1, "Immediate exit requested"))

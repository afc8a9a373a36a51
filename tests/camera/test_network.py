"""RTSP and UDP on loopback, the camera in a process of its own: killed, stopped, restarted, changing its size."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sr_edge.camera import (
    EventLog,
    Loop,
    LoopOptions,
    SinkOptions,
    SourceOptions,
    VideoFrame,
    open_sink,
    open_source,
)
from sr_edge.errors import StreamError
from tests.camera.clips import flat_frame, number_of, write_clip
from tests.camera.fakes import TIMEOUT_S, ListSink, ListSource, RepeatingFrameUpscaler, eventually
from tests.expected_errors import raises

pytestmark = pytest.mark.services

SENDER = Path(__file__).with_name("sender.py")
LISTEN = {"rtsp_flags": "listen", "listen_timeout": "20"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Camera:
    """A sender that can be killed, stopped and started again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.process: subprocess.Popen[str] | None = None

    def start(self, size: str = "64x48", rate: int = 50) -> None:
        container = "rtsp" if self.url.startswith("rtsp") else "mpegts"
        command = [sys.executable, str(SENDER), self.url, container, size, str(rate)]
        self.process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def camera(url: str) -> Iterator[Camera]:
    process = Camera(url)
    process.start()
    try:
        yield process
    finally:
        process.kill()


def steps(frames: list[VideoFrame]) -> list[int]:
    times = [frame.pts or 0 for frame in frames]
    return [later - earlier for earlier, later in pairwise(times)]


def test_rtsp_killed_restarted_and_of_another_size() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    events: list[str] = []
    with camera(url) as sender:
        source = open_source(url, SourceOptions(ffmpeg=LISTEN, on_event=events.append))
        assert source.is_live
        sizes, frames = set(), []
        for frame in Loop(source, RepeatingFrameUpscaler()).frames():
            frames.append(frame)
            if len(frames) == 5:
                sender.kill()
                sender.start("80x48")
            if frame.width == 160:
                sizes.add(len(frames))
                if len(sizes) == 5:
                    break
    assert [frame.sequence for frame in frames] == sorted(frame.sequence for frame in frames)
    assert min(steps(frames)) > 0, "times rise over the gap"
    assert "was lost: the stream ended; reconnecting" in events[0]
    assert "is available again after" in events[-1]


def test_a_recording_of_rtsp_has_the_time_of_the_cameras_clock(tmp_path: Path) -> None:
    """The sender reports its clock before its first frame, as FFmpeg does."""
    url, out, before = f"rtsp://127.0.0.1:{free_port()}/live", tmp_path / "out.mkv", datetime.now(timezone.utc)
    with camera(url):
        source = open_source(url, SourceOptions(ffmpeg=LISTEN))
        sink = open_sink(str(out), source, SinkOptions(has_timecode=True))
        frames = list(itertools.islice(source.frames(), 5))
        source.close()
    for frame in frames:
        sink.write(frame)
    sink.close()
    captured = [datetime.fromtimestamp(frame.captured_utc_ns / 1e9, timezone.utc) for frame in frames]
    assert before < captured[0] < datetime.now(timezone.utc)
    assert [later - earlier for earlier, later in pairwise(captured)] == [timedelta(seconds=1 / 50)] * 4
    with av.open(out) as container:
        created = datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))
        timecode = container.streams.video[0].metadata["TIMECODE"]
    assert abs(created - captured[0]) <= timedelta(microseconds=1)
    assert timecode == f"{captured[0]:%H:%M:%S}:{captured[0].microsecond * 50 // 1_000_000:02d}"


def test_rtsp_that_hangs_is_noticed_and_opened_again() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    with camera(url) as sender:
        frames: list[VideoFrame] = []

        def on_event(text: str) -> None:
            events.append(text)
            if "was lost" in text:  # only now: it was the silence that was noticed
                sender.kill()
                sender.start()

        events: list[str] = []
        source = open_source(url, SourceOptions(ffmpeg=LISTEN, timeout_s=0.5, on_event=on_event))
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 5:
                sender.stop()
            if events and "is available again" in events[-1]:
                source.close()
    assert "in time" in events[0] or "no frame for" in events[0]
    assert "is available again after" in events[-1]
    assert min(steps(frames)) > 0


def test_udp_frames_are_those_that_were_sent() -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    with camera(url):
        source = open_source(url)
        frames: list[VideoFrame] = []
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 20:
                source.close()
    numbers = [number_of(frame) for frame in frames]
    assert set(steps(frames)) == {1800}, "50 frames a second of 1/90000 s"
    assert {(later - earlier) % 25 for earlier, later in pairwise(numbers)} == {1}
    assert frames[0].pts == 0


def test_a_recording_of_mpeg_ts_over_udp_says_when_its_frames_arrived(tmp_path: Path) -> None:
    """MPEG-TS has no clock of the day: the start is that of this machine, and the distances are those of the sender."""
    url, out = f"udp://127.0.0.1:{free_port()}", tmp_path / "out.mkv"
    with camera(url):
        before = datetime.now(timezone.utc)
        source = open_source(url)
        opened = datetime.now(timezone.utc)
        sink = open_sink(str(out), source, SinkOptions(has_timecode=True))
        frames: list[VideoFrame] = []
        for frame in source.frames():
            sink.write(frame)
            frames.append(frame)
            if len(frames) == 20:
                source.close()
        after = datetime.now(timezone.utc)
        sink.close()
    assert frames[0].captured_utc_ns == 0, "the sender gives no time"
    with av.open(out) as container:
        created = datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))
        tags = {name.lower() for name in container.streams.video[0].metadata}
        times = [frame.time for frame in container.decode(video=0)]
    assert opened <= created <= after and "timecode" in tags
    assert len(times) == 20
    assert all(abs(later - earlier - 0.02) < 0.0015 for earlier, later in pairwise(times)), "Matroska has milliseconds"
    late = created + timedelta(seconds=times[-1]) - after
    assert times[0] == 0 and late <= opened - before + timedelta(seconds=0.02), "later by the time of opening at most"


LISTENER = """
import sys, av
with av.open(sys.argv[1], options={"rtsp_flags": "listen", "listen_timeout": "20"}) as container:
    for frame in container.decode(video=0):
        print(frame.width, frame.height, round(float(frame.to_ndarray()[: frame.height].mean())), flush=True)
"""


class Server:
    """Takes a stream by RTSP, in a process of its own, and says what it shows."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-c", LISTENER, url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def end(self) -> None:
        with self.process:  # waits for it and closes its pipe
            self.process.kill()
            self._reader.join()


@contextmanager
def server(url: str) -> Iterator[Server]:
    process = Server(url)
    try:
        yield process
    finally:
        process.end()


def test_the_stream_goes_out_by_rtsp_as_it_came_in() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/out"
    with server(url) as taking:
        sink = connected_sink(url)
        for number in range(1, 60):
            sink.write(flat_frame(number, pts=number))
        sink.close()
        eventually(lambda: len(taking.lines) >= 10)
    shown = [line.split() for line in taking.lines[:10]]
    assert {(width, height) for width, height, _ in shown} == {("64", "48")}
    levels = [round((int(level) - 20) / 8) for *_, level in shown]
    assert [later - earlier for earlier, later in pairwise(levels)] == [1] * 9


def endless(until: threading.Event) -> Iterator[VideoFrame]:
    """A camera of 50 frames a second."""
    for number in itertools.count(1):
        if until.wait(0.02):
            return
        yield flat_frame(number, pts=number)


def test_a_server_that_was_killed_gets_the_stream_again() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/out"
    enough = threading.Event()
    event_log = EventLog()
    source = ListSource(endless(enough), is_live=True)
    with server(url) as first:
        sink = connected_sink(url, SinkOptions(on_event=event_log.record))
        loop = Loop(source, RepeatingFrameUpscaler(), LoopOptions(event_log=event_log))
        running = threading.Thread(target=loop.run, args=(sink,))
        running.start()
        eventually(lambda: len(first.lines) > 2)
    eventually(lambda: any("was lost" in event for event in event_log.events))
    with server(url) as second:
        eventually(lambda: len(second.lines) > 2)
    enough.set()
    loop.stop()
    running.join(TIMEOUT_S)
    assert not running.is_alive()
    assert loop.report().sink_reconnections == 1


def test_a_server_that_never_answers_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        place = f"127.0.0.1:{deaf.getsockname()[1]}/out"
        sink = open_sink(f"rtsp://me:hunter2@{place}", ListSource([], is_live=True), SinkOptions(timeout_s=0.5))
        with raises(StreamError, found=f"rtsp://***@{place}", wanted="rtsp") as caught:
            sink.write(flat_frame(0, pts=0))
        sink.close()
    assert "hunter" not in repr(vars(caught.value))


def connected_sink(url: str, options: SinkOptions | None = None) -> Any:
    """A sink whose first frame is taken: the other side may still be starting."""
    made: list[Any] = []

    def try_once() -> bool:
        sink = open_sink(url, ListSource([], is_live=True), options)
        try:
            sink.write(flat_frame(0, pts=0))
        except StreamError:
            return False
        made.append(sink)
        return True

    eventually(try_once)
    return made[0]


def test_a_resolution_that_changes_within_the_stream(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{width}.ts", range(0, 18_000, 3000), size=(width, 48)).read_bytes()
        for width in (64, 80)
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    sink = ListSink()
    report = Loop(open_source(str(tmp_path / "both.ts")), RepeatingFrameUpscaler()).run(sink)
    assert [frame.width for frame in sink.frames] == [128] * 6 + [160] * 6
    assert [frame.pts for frame in sink.frames] == sorted(frame.pts or 0 for frame in sink.frames)
    assert report.failed == 0


def test_damaged_packets_are_counted_and_the_rest_is_shown(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.avi", range(60), codec="mpeg4", time_base=Fraction(1, 30))
    with av.open(clip) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(clip.read_bytes())
    chunk_header = 8
    for place, size in places[10:15]:
        first, length = place + chunk_header, min(size, 60)
        content[first : first + length] = np.random.default_rng(1).integers(0, 256, length, np.uint8).tobytes()
    (tmp_path / "damaged.avi").write_bytes(content)
    loop = Loop(open_source(str(tmp_path / "damaged.avi")), RepeatingFrameUpscaler())
    frames = list(loop.frames())
    assert 0 < loop.report().unreadable_packets <= 5
    assert 55 <= len(frames) < 60
    assert number_of(frames[-1]) == 59 % 25

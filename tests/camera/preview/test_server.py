"""The server of the preview: access control, frames on request only, exact pixels, switching between engines."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sr_edge.bundle import open_bundle
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.watchdog import StageTimeout
from sr_edge.camera.preview.access import Access, access_for
from sr_edge.camera.preview.engines import EngineOption, engine_options, recommended_engine
from sr_edge.camera.preview.repeating_source import RepeatingSource
from sr_edge.camera.preview.server import MAX_VIEWERS, listening_socket
from sr_edge.camera.preview.stream import PreviewStream
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.controls import Controls
from sr_edge.errors import EngineError, StreamError, UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.model_sources import open_session
from sr_edge.runtimes import Session
from sr_edge.spec import Precision
from tests.camera.clips import flat_frame, number_of
from tests.camera.fakes import ListSource, eventually
from tests.camera.preview.running_preview import (
    ENGINES,
    STREAM_INFO,
    ReceivedFrame,
    before_and_after,
    decode_frame,
    psnr_db,
    running_stream,
    serving,
)
from tests.expected_errors import raises

LIMIT_S = 60
REFUSED, FULL, NOT_TEXT, MALFORMED, TOO_LARGE = 4403, 1013, 1003, 1007, 1009
"""Close codes: access refused, and registered codes (RFC 6455, section 7.4)."""
OTHER = EngineOption("torch", Precision.FP32)
"""An engine that is not in STREAM_INFO."""
LOCAL = Access("127.0.0.1", "")
WITH_TOKEN = Access("0.0.0.0", "a-token")


@pytest.fixture(scope="module")
def stream(bundle: Path, images: Path) -> Iterator[PreviewStream]:
    with running_stream(bundle, images) as running:
        yield running


@pytest.fixture(scope="module")
def port(stream: PreviewStream) -> Iterator[int]:
    with serving(stream, STREAM_INFO, LOCAL) as number:
        yield number


@pytest.fixture(scope="module")
def token_port(stream: PreviewStream) -> Iterator[int]:
    with serving(stream, STREAM_INFO, WITH_TOKEN) as number:
        yield number


def get(port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of the response."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(), dict(refused.headers)


def open_page(port: int, query: str = "", origin: str | None = None) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/live{query}", origin=origin, open_timeout=LIMIT_S, proxy=None)  # type: ignore[arg-type]


def close_code(page: ClientConnection) -> int:
    """The code with which the server closes the connection instead of sending anything."""
    with pytest.raises(ConnectionClosed) as caught:
        page.recv(timeout=LIMIT_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def next_frame(page: ClientConnection) -> ReceivedFrame:
    page.send('{"request": "frame"}')
    return decode_frame(receive(page, lambda message: isinstance(message, bytes)))


def request_engines(page: ClientConnection, *options: EngineOption, number: int = 1) -> None:
    labels = [option.label for option in options]
    page.send(json.dumps({"request": "engines", "engines": labels, "request_number": number}))


def next_statistics(page: ClientConnection, accepts: Callable[[dict[str, Any]], bool] = lambda statistics: True) -> Any:
    def is_accepted(message: str | bytes) -> bool:
        return isinstance(message, str) and json.loads(message)["kind"] == "statistics" and accepts(json.loads(message))

    return json.loads(receive(page, is_accepted))


def receive(page: ClientConnection, accepts: Callable[[str | bytes], bool]) -> Any:
    while True:
        message = page.recv(timeout=LIMIT_S)
        if accepts(message):
            return message


def test_the_page_and_its_assets_are_served(port: int) -> None:
    status, page, headers = get(port)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    for name in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert get(port, f"/{name}")[0] == 200
    assert get(port, "/etc/passwd")[0] == 404


def test_assets_contain_no_external_addresses() -> None:
    for asset in (files("sr_edge.camera.preview") / "page").iterdir():
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", asset.read_text(encoding="utf-8")))
        assert outside <= {"http://www.w3.org"}, asset.name


def test_requested_frames_are_the_networks_output(port: int, images: Path, session: Session) -> None:
    before, after = before_and_after(images, session)
    with open_page(port) as page:
        stream_info = json.loads(page.recv(timeout=LIMIT_S))
        assert stream_info["engines"] == ["onnxruntime fp32", "openvino fp32"]
        assert stream_info["recommended"] == "openvino fp32"
        shown_before, shown_after = next_frame(page).images
    assert psnr_db(shown_before, before) > 35
    assert psnr_db(shown_after, after) > 35
    assert psnr_db(shown_after, before.repeat(2, 0).repeat(2, 1)) < 30


def test_a_snapshot_is_the_frame_that_was_sent_last_without_the_losses_of_jpeg(
    port: int, images: Path, session: Session
) -> None:
    _, after = before_and_after(images, session)
    with open_page(port) as page:
        shown = next_frame(page)
        page.send('{"request": "snapshot"}')
        snapshot = decode_frame(receive(page, lambda message: isinstance(message, bytes)))
    assert snapshot.header["kind"] == "snapshot"
    assert snapshot.number == shown.number
    assert snapshot.header["names"][0].endswith(".png")
    assert psnr_db(snapshot.images[0], after) > 55


def test_a_late_request_gets_the_newest_frame(port: int, stream: PreviewStream) -> None:
    with open_page(port) as page:
        first = next_frame(page).number
        eventually(lambda: stream.newest(first + 5) is not None)
        assert next_frame(page).number > first + 5


def test_statistics_contain_rate_latency_and_drops(port: int) -> None:
    with open_page(port) as page:
        statistics = next_statistics(page, lambda message: message["frames_out"] > 2 and message["p50_ms"] is not None)
    assert statistics["state"] == "live"
    assert statistics["frames_in"] >= statistics["frames_out"] + statistics["dropped"] + statistics["failed"]
    assert 0 < statistics["p50_ms"] <= statistics["p95_ms"]


def test_the_engine_can_be_switched_while_frames_are_upscaled(port: int) -> None:
    with open_page(port) as page:
        start = next_frame(page)
        other = next(option for option in ENGINES if option.label != start.engines[0])
        request_engines(page, other)
        next_statistics(page, lambda message: message["engines"] == [other.label] and message["loading"] == [])
        frames = [next_frame(page) for _ in range(3)]
        assert frames[-1].engines == [other.label]
        assert frames[0].number > start.number


def test_two_engines_upscale_the_same_frame(port: int, images: Path, session: Session) -> None:
    _, after = before_and_after(images, session)
    with open_page(port) as page:
        request_engines(page, ENGINES[0], ENGINES[1])
        next_statistics(page, lambda message: message["engines"] == [option.label for option in ENGINES])
        frame = next_frame(page)
        while len(frame.engines) < 2:
            frame = next_frame(page)
        assert frame.engines == ["onnxruntime fp32", "openvino fp32"]
        assert all(psnr_db(image, after) > 35 for image in frame.images[1:])
        assert frame.header["difference_db"] > 50
        request_engines(page, ENGINES[0])
        next_statistics(page, lambda message: message["engines"] == [ENGINES[0].label])
        assert frame.number < next_frame(page).number


def test_frames_and_statistics_say_what_was_reused(port: int) -> None:
    """The stream shows the same image again and again."""
    with open_page(port) as page:
        frame = next_frame(page)
        while not frame.header["outputs"][0]["reused"]:  # the first frame of an engine has none
            frame = next_frame(page)
        statistics = next_statistics(page, lambda message: message["reuse"] and message["reuse"]["share"] > 0.5)
    covered = np.zeros(frame.images[0].shape[:2], bool)
    for left, top, width, height in frame.header["outputs"][0]["reused"]:
        covered[top : top + height, left : left + width] = True
    assert covered.all()
    reuse = statistics["reuse"]
    assert reuse["tiles"] > 0 and 0 < reuse["memory_bytes"] <= reuse["most_bytes"] and reuse["obstacle"] == ""


def test_statistics_have_the_number_of_the_request_that_they_answer(port: int) -> None:
    with open_page(port) as page:
        assert next_statistics(page)["request_number"] == 0
        request_engines(page, ENGINES[1], number=6)
        request_engines(page, ENGINES[0], number=7)
        statistics = next_statistics(page, lambda message: message["request_number"] == 7)
        assert statistics["wanted"] == [ENGINES[0].label]


@pytest.mark.parametrize(
    "message",
    [
        '{"request": "engines", "engines": ["abacus int8"]}',
        '{"request": "engines", "engines": ["openvino fp32", "onnxruntime fp32", "torch fp32"], "request_number": "x"}',
        '{"request": "engines", "engines": []}',
        '{"request": "engines", "engines": "openvino fp32"}',
        '{"request": "engines", "engines": [{}], "request_number": 1e400}',
        '{"request": "the moon"}',
        '{"request": []}',
        "{}",
    ],
)
def test_requests_for_what_does_not_exist_are_ignored(message: str, port: int) -> None:
    with open_page(port) as page:
        page.send(message)
        assert next_frame(page).number >= 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"binary", NOT_TEXT),
        (b"", NOT_TEXT),
        ("nonsense", MALFORMED),
        ("", MALFORMED),
        ("[]", MALFORMED),
        ("[" * 4000, MALFORMED),
        ("x" * 5000, TOO_LARGE),
    ],
)
def test_messages_that_are_no_requests_close_the_connection(
    message: str | bytes, code: int, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_page(port) as page:
        page.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                page.recv(timeout=LIMIT_S)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == code
    assert "Traceback" not in caplog.text


class HeldEngines:
    """Opens the first engine at once, and others when the test allows it."""

    def __init__(self, bundle: Path) -> None:
        self.may_load, self.is_loading = threading.Event(), threading.Event()
        self.opened: list[EngineOption] = []
        self.sessions: list[Session] = []
        self._bundle = bundle

    def open(self, option: EngineOption) -> Session:
        self.opened.append(option)
        if len(self.opened) > 1:
            self.is_loading.set()
            assert self.may_load.wait(LIMIT_S)
        self.sessions.append(open_session(self._bundle, option.runtime))
        return self.sessions[-1]


def is_closed(session: Session) -> bool:
    try:
        session.run(np.zeros((32, 40, 3), np.uint8))
    except UsageError:
        return True
    return False


def test_of_many_requests_the_newest_wins_and_stale_ones_are_never_run(bundle: Path) -> None:
    engines = HeldEngines(bundle)
    upscaler = SwitchableFrameUpscaler(engines.open, ENGINES[0])
    stream = PreviewStream(ListSource([]), upscaler)
    threads = threading.active_count()
    stream.request_engines([ENGINES[1]])
    assert engines.is_loading.wait(LIMIT_S)
    assert stream.statistics()["loading"] == [ENGINES[1].label]
    for _ in range(100):
        stream.request_engines([ENGINES[1], OTHER])
        stream.request_engines([OTHER])
    assert threading.active_count() <= threads + 1
    assert stream.statistics()["loading"] == [OTHER.label]
    stream.request_engines([ENGINES[0]])
    assert (stream.statistics()["wanted"], stream.statistics()["loading"]) == ([ENGINES[0].label], [])
    engines.may_load.set()
    eventually(lambda: len(engines.sessions) == 2 and is_closed(engines.sessions[1]))
    assert engines.opened == list(ENGINES), "only the first one, and the one that was being loaded"
    assert upscaler.options == (ENGINES[0],)
    assert not is_closed(engines.sessions[0])
    upscaler.close()


def test_the_problem_of_a_stale_request_is_not_shown(bundle: Path) -> None:
    may_fail, is_loading = threading.Event(), threading.Event()

    def open_engine(option: EngineOption) -> Session:
        if option == ENGINES[1]:
            is_loading.set()
            assert may_fail.wait(LIMIT_S)
            raise EngineError("it does not compile")
        return open_session(bundle, option.runtime)

    upscaler = SwitchableFrameUpscaler(open_engine, ENGINES[0])
    events: list[str] = []
    stream = PreviewStream(ListSource([]), upscaler, on_event=events.append)
    stream.request_engines([ENGINES[1]])
    assert is_loading.wait(LIMIT_S)
    stream.request_engines([OTHER])
    may_fail.set()
    eventually(lambda: stream.statistics()["engines"] == [OTHER.label])
    assert (stream.statistics()["problem"], events) == ("", [])
    upscaler.close()


def test_an_engine_that_stays_is_not_opened_again(bundle: Path) -> None:
    opened: list[EngineOption] = []

    def open_engine(option: EngineOption) -> Session:
        opened.append(option)
        return open_session(bundle, option.runtime)

    upscaler = SwitchableFrameUpscaler(open_engine, ENGINES[0])
    upscaler.switch(ENGINES)
    upscaler.switch([ENGINES[1], ENGINES[0]])
    assert upscaler.options == (ENGINES[1], ENGINES[0])
    frame = upscaler.prepare(flat_frame(0))
    upscaler.infer(frame)
    assert [output.option for output in upscaler.record(0).outputs] == [ENGINES[1], ENGINES[0]]
    upscaler.switch([ENGINES[1], ENGINES[1]])
    assert list(upscaler.options) == [ENGINES[1]]
    assert opened == list(ENGINES)
    upscaler.close()


def test_closing_does_not_wait_for_an_engine_that_is_loaded(bundle: Path) -> None:
    may_load, is_loading = threading.Event(), threading.Event()

    def open_engine(option: EngineOption) -> Session:
        if option != ENGINES[0]:
            is_loading.set()
            assert may_load.wait(LIMIT_S)
        return open_session(bundle, option.runtime)

    upscaler = SwitchableFrameUpscaler(open_engine, ENGINES[0])
    stream = PreviewStream(ListSource([]), upscaler)
    stream.request_engines([ENGINES[1]])
    assert is_loading.wait(LIMIT_S)
    assert not stream.close()
    may_load.set()
    eventually(stream.close)
    upscaler.close()


def test_other_hosts_and_origins_are_refused(port: int) -> None:
    status, text, _ = get(port, Host="evil.example")
    assert (status, text != "") == (403, True)
    with open_page(port, origin="http://evil.example") as page:
        assert close_code(page) == REFUSED
    with open_page(port, origin=f"http://127.0.0.1:{port}") as page:
        assert json.loads(page.recv(timeout=LIMIT_S))["kind"] == "stream_info"


def test_other_machines_need_the_token(token_port: int) -> None:
    assert get(token_port)[0] == 403
    assert get(token_port, "/?token=a-tokem")[0] == 403
    assert get(token_port, "/?token=a-token", Host="camera.local")[0] == 200
    with open_page(token_port) as page:
        assert close_code(page) == REFUSED
    with open_page(token_port, "?token=a-token") as page:
        assert next_frame(page).images[1].shape == (180, 320, 3)


def test_the_number_of_viewers_is_limited(port: int) -> None:
    with ExitStack() as open_pages:
        pages = [open_pages.enter_context(open_page(port)) for _ in range(MAX_VIEWERS)]
        assert all(json.loads(page.recv(timeout=LIMIT_S))["kind"] == "stream_info" for page in pages)
        with open_page(port) as rejected:
            assert close_code(rejected) == FULL


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert access_for(host).token == ""


def test_other_addresses_get_a_new_token_each() -> None:
    first, second = access_for("0.0.0.0"), access_for("0.0.0.0")
    assert len(first.token) >= 32
    assert first.token != second.token
    assert first.address("camera", 80) == f"http://camera:80/?token={first.token}"
    assert access_for("::1").address("::1", 80) == "http://[::1]:80/"


def test_a_port_in_use_is_an_error() -> None:
    with listening_socket("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with raises(StreamError, found=("127.0.0.1", number)) as caught:
            listening_socket("127.0.0.1", number)
    assert os.strerror(errno.EADDRINUSE) in caught.value.problem
    assert "--port" in str(caught.value.remedy)


def test_engine_options_are_what_the_bundle_and_this_machine_have(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        options = engine_options(opened)
    assert EngineOption("onnxruntime", Precision.FP32) in options
    assert all(option.precision is not Precision.INT8 for option in options)


def test_an_engine_that_cannot_be_opened_leaves_the_current_one(session: Session, bundle: Path) -> None:
    def open_engine(option: EngineOption) -> Session:
        if option != ENGINES[0]:
            raise EngineError("it does not compile")
        return open_session(bundle, option.runtime)

    upscaler = SwitchableFrameUpscaler(open_engine, ENGINES[0])
    stream = PreviewStream(ListSource([]), upscaler)
    stream.request_engines([ENGINES[1]])
    eventually(lambda: stream.statistics()["problem"] == "it does not compile")
    eventually(lambda: stream.statistics()["loading"] == [])
    assert stream.statistics()["engines"] == [ENGINES[0].label]
    upscaler.close()


def test_a_replaced_engine_is_closed_after_its_last_frame(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [open_session(bundle, "onnxruntime"), open_session(bundle, "onnxruntime")]
    unopened = iter(sessions)
    upscaler = SwitchableFrameUpscaler(lambda option: next(unopened), ENGINES[0])
    in_model, may_return = threading.Event(), threading.Event()
    submit = sessions[0].submit

    def slow(frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        in_model.set()
        assert may_return.wait(LIMIT_S)
        return submit(frames, controls)

    monkeypatch.setattr(sessions[0], "submit", slow)
    results: list[VideoFrame] = []
    frame = upscaler.prepare(flat_frame(0))
    worker = threading.Thread(target=lambda: results.append(upscaler.infer(frame)))
    worker.start()
    assert in_model.wait(LIMIT_S)
    assert upscaler.is_busy
    upscaler.switch([ENGINES[1]])
    assert upscaler.is_busy, "the replaced engine still has the frame"
    may_return.set()
    worker.join(LIMIT_S)
    assert results[0].width == 2 * frame.width
    assert not upscaler.is_busy
    assert upscaler.record(0).outputs[0].option == ENGINES[0]
    tile = np.zeros((32, 40, 3), np.uint8)
    assert sessions[1].run(tile).shape == (64, 80, 3)
    with raises(UsageError):  # closed
        sessions[0].run(tile)
    upscaler.close()


class HeldSource(ListSource):
    """Delivers one frame, then nothing; whether it is lost is up to the test."""

    def __init__(self) -> None:
        super().__init__(self._one_frame(), is_live=True)

    def _one_frame(self) -> Iterator[VideoFrame]:
        yield flat_frame(0, pts=0)
        assert self.closed.wait(LIMIT_S)


@pytest.mark.parametrize(
    ("is_reconnecting", "is_engine_busy", "expected"),
    [(False, False, "source"), (True, False, "reconnection"), (False, True, "engine")],
)
def test_statistics_say_what_a_stream_without_frames_waits_for(
    bundle: Path, is_reconnecting: bool, is_engine_busy: bool, expected: str
) -> None:
    class BusyFrameUpscaler(SwitchableFrameUpscaler):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            upscaled = super().infer(prepared)
            assert may_return.wait(LIMIT_S)
            return upscaled

        @property
        def is_busy(self) -> bool:
            return is_engine_busy

    may_return = threading.Event()
    source = HeldSource()
    source.is_reconnecting = is_reconnecting
    upscaler = BusyFrameUpscaler(lambda option: open_session(bundle, option.runtime), ENGINES[0])
    stream = PreviewStream(source, upscaler, waiting_after_s=0.05)
    stream.start()
    if not is_engine_busy:
        may_return.set()
    eventually(lambda: stream.statistics()["waiting"] is not None)
    waiting: Any = stream.statistics()["waiting"]
    assert waiting["for"] == expected
    assert waiting["seconds"] > 0
    may_return.set()
    stream.close()
    upscaler.close()


def test_nothing_is_recommended_for_a_bundle_without_a_recommendation(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        assert recommended_engine(opened, ENGINES) is None


def test_a_stream_that_has_ended_reports_it(bundle: Path) -> None:
    upscaler = SwitchableFrameUpscaler(lambda option: open_session(bundle, option.runtime), ENGINES[0])
    events: list[str] = []
    stream = PreviewStream(
        ListSource([flat_frame(number, pts=number) for number in range(3)]), upscaler, on_event=events.append
    )
    stream.start()
    eventually(lambda: stream.statistics()["state"] == "ended")
    assert stream.statistics()["frames_out"] == 3
    assert events == ["the source has ended"]
    assert stream.close() is True
    upscaler.close()


@pytest.mark.parametrize(
    ("error", "can_be_closed"),
    [
        (StreamError("the camera was unplugged"), True),
        (StageTimeout("the model (onnxruntime fp32) does not come back"), False),
    ],
    ids=["lost", "hung"],
)
def test_a_stream_that_fails_reports_the_reason(bundle: Path, error: StreamError, can_be_closed: bool) -> None:
    def failing() -> Iterator[VideoFrame]:
        yield flat_frame(0, pts=0)
        raise error

    upscaler = SwitchableFrameUpscaler(lambda option: open_session(bundle, option.runtime), ENGINES[0])
    stream = PreviewStream(ListSource(failing()), upscaler)
    stream.start()
    eventually(lambda: stream.statistics()["state"] == "failed")
    assert stream.statistics()["reason"] == str(error)
    assert stream.close() is can_be_closed
    upscaler.close()


def test_a_repeating_source_continues_numbers_and_timestamps() -> None:
    opened: list[ListSource] = []

    def open_again() -> ListSource:
        opened.append(ListSource([flat_frame(number, pts=7 + number) for number in range(3)]))
        return opened[-1]

    source = RepeatingSource(open_again)
    frames = source.frames()
    repeated = [next(frames) for _ in range(7)]
    assert [frame.sequence for frame in repeated] == list(range(7))
    assert [frame.pts for frame in repeated] == list(range(7, 14))
    assert [number_of(frame) for frame in repeated] == [0, 1, 2, 0, 1, 2, 0]
    source.close()
    assert list(frames) == []
    assert all(source.closed.is_set() for source in opened)
    assert repeated[0].time_base == Fraction(1, 30)


def test_a_source_without_frames_is_not_repeated() -> None:
    assert list(RepeatingSource(lambda: ListSource([])).frames()) == []


@contextmanager
def half_open_connections(port: int) -> Iterator[None]:
    """Connections whose other side says nothing, sends half a request, or opens a WebSocket and never answers."""
    upgrade = (
        "GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with ExitStack() as opened:
        for said in ("", "GET / HT", "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf", upgrade):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(said.encode())
        yield


def test_the_command_serves_until_ctrl_c(bundle: Path, images: Path) -> None:
    command = [sys.executable, "-m", "sr_edge", "preview", str(bundle), str(images), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:(\d+)/ ", running.stdout.readline())
        assert address is not None
        with open_page(int(address[1])) as page:
            assert next_frame(page).images[1].shape == (180, 320, 3)
        with half_open_connections(int(address[1])):
            running.send_signal(signal.SIGINT)
            stdout, stderr = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, stderr
    assert "160x90 -> 320x180" in stdout
    assert "sr-edge: " not in stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/nowhere.mp4", "/nowhere.mp4"),
        ("gst:nosuchelement", r'GStreamer|no element "nosuchelement"'),
    ],
)
def test_a_source_that_cannot_be_opened_is_an_error_before_serving(bundle: Path, source: str, reason: str) -> None:
    command = [sys.executable, "-m", "sr_edge", "preview", str(bundle), source, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(reason, done.stderr), done.stderr


def test_the_listening_socket_is_bound_to_the_loopback_address() -> None:
    with listening_socket("127.0.0.1", 0) as listening:
        assert listening.family is socket.AF_INET
        assert listening.getsockname()[0] == "127.0.0.1"

"""The preview's server: who may look, frames on request only, exact pixels, engines changed while frames flow."""

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
from contextlib import ExitStack
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sr_edge.bundle import open_bundle
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.preview.access import Access, access_for
from sr_edge.camera.preview.engines import EngineOption, SwitchableFrameUpscaler, engine_options
from sr_edge.camera.preview.repeated import RepeatedSource
from sr_edge.camera.preview.server import MOST_VIEWERS, listening_socket
from sr_edge.camera.preview.show import PreviewStream
from sr_edge.camera.watch import StageTimeout
from sr_edge.controls import Controls
from sr_edge.errors import EngineError, StreamError, UsageError
from sr_edge.runtimes import Session, open_session
from sr_edge.runtimes.session import Batch, Frame
from sr_edge.spec import Precision
from tests.camera.clips import flat_frame, number_of
from tests.camera.preview_here import (
    CHOICES,
    STREAM_INFO,
    before_and_after,
    psnr_db,
    serving,
    showing,
    unpacked,
    write_still,
)
from tests.camera.stand_ins import ListSource, eventually
from tests.expected_errors import raises

LIMIT_S = 60
REFUSED, FULL = 4403, 1013
"""Codes of closed connections: the viewer may not look; try again later (RFC 6455, section 7.4)."""
HERE = Access("127.0.0.1", "")
GUARDED = Access("0.0.0.0", "a-token")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_still(tmp_path_factory.mktemp("still") / "pictures")


@pytest.fixture(scope="module")
def stream(bundle: Path, still: Path) -> Iterator[PreviewStream]:
    with showing(bundle, still) as running:
        yield running


@pytest.fixture(scope="module")
def port(stream: PreviewStream) -> Iterator[int]:
    with serving(stream, STREAM_INFO, HERE) as number:
        yield number


@pytest.fixture(scope="module")
def guarded_port(stream: PreviewStream) -> Iterator[int]:
    with serving(stream, STREAM_INFO, GUARDED) as number:
        yield number


def answer(port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as got:
            return got.status, got.read().decode(), dict(got.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(), dict(refused.headers)


def looking(port: int, query: str = "", origin: str | None = None) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/live{query}", origin=origin, open_timeout=LIMIT_S, proxy=None)  # type: ignore[arg-type]


def close_code(page: ClientConnection) -> int:
    """The code with which the server closes the connection instead of sending anything."""
    with pytest.raises(ConnectionClosed) as caught:
        page.recv(timeout=LIMIT_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def next_frame(page: ClientConnection) -> Any:
    page.send('{"want": "frame"}')
    return unpacked(heard(page, lambda message: isinstance(message, bytes)))


def next_figures(page: ClientConnection, wanted: Callable[[dict[str, Any]], bool] = lambda figures: True) -> Any:
    def fits(message: str | bytes) -> bool:
        return isinstance(message, str) and json.loads(message)["kind"] == "figures" and wanted(json.loads(message))

    return json.loads(heard(page, fits))


def heard(page: ClientConnection, wanted: Callable[[str | bytes], bool]) -> Any:
    while True:
        message = page.recv(timeout=LIMIT_S)
        if wanted(message):
            return message


def test_the_page_and_all_it_names_are_served(port: int) -> None:
    status, page, headers = answer(port)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    for name in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert answer(port, f"/{name}")[0] == 200
    assert answer(port, "/etc/passwd")[0] == 404


def test_nothing_comes_from_outside() -> None:
    for asset in (files("sr_edge.camera.preview") / "page").iterdir():
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", asset.read_text(encoding="utf-8")))
        assert outside <= {"http://www.w3.org"}, asset.name


def test_frames_come_on_request_and_are_the_networks(port: int, still: Path, session: Session) -> None:
    before, after = before_and_after(still, session)
    with looking(port) as page:
        stream_info = json.loads(page.recv(timeout=LIMIT_S))
        assert stream_info["choices"] == ["onnxruntime fp32", "openvino fp32"]
        pair = next_frame(page)
    assert pair.header["before"][:2] == [160, 90]
    assert pair.header["after"][:2] == [320, 180]
    assert psnr_db(pair.before, before) > 35
    assert psnr_db(pair.after, after) > 35
    assert psnr_db(pair.after, before.repeat(2, 0).repeat(2, 1)) < 30


def test_who_does_not_ask_is_sent_no_frame_and_then_the_newest(port: int, stream: PreviewStream) -> None:
    with looking(port) as page:
        first = next_frame(page).header["number"]
        eventually(lambda: stream.newest(first + 5) is not None)
        assert next_frame(page).header["number"] > first + 5


def test_figures_tell_of_rate_latency_and_drops(port: int) -> None:
    with looking(port) as page:
        figures = next_figures(page, lambda told: told["frames_out"] > 2 and told["p50_ms"] is not None)
    assert figures["state"] == "live"
    assert figures["frames_in"] >= figures["frames_out"] + figures["dropped"] + figures["failed"]
    assert 0 < figures["p50_ms"] <= figures["p95_ms"]


def test_the_engine_changes_while_frames_flow(port: int) -> None:
    with looking(port) as page:
        start = next_frame(page).header
        other = next(choice.label for choice in CHOICES if choice.label != start["made_by"])
        page.send(json.dumps({"use": other}))
        next_figures(page, lambda told: told["running"] == other and told["loading"] is None)
        pairs = [next_frame(page).header for _ in range(3)]
        assert pairs[-1]["made_by"] == other
        assert pairs[0]["number"] > start["number"]
        page.send(json.dumps({"use": start["made_by"]}))
        next_figures(page, lambda told: told["running"] == start["made_by"])


@pytest.mark.parametrize("said", ["nonsense", "[]", '{"use": "abacus int8"}', '{"want": "the moon"}'])
def test_a_page_that_talks_nonsense_is_ignored(said: str, port: int) -> None:
    with looking(port) as page:
        page.send(said)
        assert next_frame(page).header["number"] >= 0


def test_other_hosts_and_other_sites_pages_are_refused(port: int) -> None:
    status, text, _ = answer(port, Host="evil.example")
    assert (status, text != "") == (403, True)
    with looking(port, origin="http://evil.example") as page:
        assert close_code(page) == REFUSED
    with looking(port, origin=f"http://127.0.0.1:{port}") as page:
        assert json.loads(page.recv(timeout=LIMIT_S))["kind"] == "stream_info"


def test_from_other_machines_the_token_is_needed(guarded_port: int) -> None:
    assert answer(guarded_port)[0] == 403
    assert answer(guarded_port, "/?token=a-tokem")[0] == 403
    assert answer(guarded_port, "/?token=a-token", Host="camera.local")[0] == 200
    with looking(guarded_port) as page:
        assert close_code(page) == REFUSED
    with looking(guarded_port, "?token=a-token") as page:
        assert next_frame(page).header["after"][:2] == [320, 180]


def test_viewers_are_bounded(port: int) -> None:
    with ExitStack() as open_pages:
        pages = [open_pages.enter_context(looking(port)) for _ in range(MOST_VIEWERS)]
        assert all(json.loads(page.recv(timeout=LIMIT_S))["kind"] == "stream_info" for page in pages)
        with looking(port) as one_more:
            assert close_code(one_more) == FULL


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert access_for(host).token == ""


def test_every_other_address_has_a_token_of_its_own() -> None:
    first, second = access_for("0.0.0.0"), access_for("0.0.0.0")
    assert len(first.token) >= 32
    assert first.token != second.token
    assert first.address("camera", 80) == f"http://camera:80/?token={first.token}"
    assert access_for("::1").address("::1", 80) == "http://[::1]:80/"


def test_a_port_in_use_is_named() -> None:
    with listening_socket("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with raises(StreamError, found=("127.0.0.1", number)) as caught:
            listening_socket("127.0.0.1", number)
    assert os.strerror(errno.EADDRINUSE) in caught.value.problem
    assert "--port" in str(caught.value.remedy)


def test_choices_are_what_the_bundle_and_this_machine_have(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        found = engine_options(opened)
    assert EngineOption("onnxruntime", Precision.FP32) in found
    assert all(choice.precision is not Precision.INT8 for choice in found)


def test_an_engine_that_cannot_be_opened_leaves_the_present_one(session: Session, bundle: Path) -> None:
    def opened(choice: EngineOption) -> Session:
        if choice != CHOICES[0]:
            raise EngineError("it does not compile")
        return open_session(bundle, choice.runtime)

    upscaler = SwitchableFrameUpscaler(opened, CHOICES[0])
    stream = PreviewStream(ListSource([]), upscaler)
    stream.switch(CHOICES[1])
    assert stream.figures()["problem"] == "it does not compile"
    assert (stream.figures()["running"], stream.figures()["loading"]) == (CHOICES[0].label, None)
    upscaler.close()


def test_an_engine_is_closed_when_the_last_frame_is_out_of_it(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [open_session(bundle, "onnxruntime"), open_session(bundle, "onnxruntime")]
    waiting = iter(sessions)
    upscaler = SwitchableFrameUpscaler(lambda choice: next(waiting), CHOICES[0])
    inside, may_leave = threading.Event(), threading.Event()
    submit = sessions[0].submit

    def slow(frames: Batch | Frame, controls: Controls | None = None) -> int:
        inside.set()
        assert may_leave.wait(LIMIT_S)
        return submit(frames, controls)

    monkeypatch.setattr(sessions[0], "submit", slow)
    results: list[VideoFrame] = []
    frame = upscaler.prepare(flat_frame(0))
    worker = threading.Thread(target=lambda: results.append(upscaler.infer(frame)))
    worker.start()
    assert inside.wait(LIMIT_S)
    upscaler.switch(CHOICES[1])
    may_leave.set()
    worker.join(LIMIT_S)
    assert results[0].width == 2 * frame.width
    assert upscaler.record(0).choice == CHOICES[0]
    tile = np.zeros((32, 40, 3), np.uint8)
    assert sessions[1].run(tile).shape == (64, 80, 3)
    with raises(UsageError):  # closed
        sessions[0].run(tile)
    upscaler.close()


def test_a_show_that_is_over_says_so(bundle: Path) -> None:
    upscaler = SwitchableFrameUpscaler(lambda choice: open_session(bundle, choice.runtime), CHOICES[0])
    said: list[str] = []
    stream = PreviewStream(
        ListSource([flat_frame(number, pts=number) for number in range(3)]), upscaler, on_event=said.append
    )
    stream.start()
    eventually(lambda: stream.figures()["state"] == "ended")
    assert stream.figures()["frames_out"] == 3
    assert said == ["the source has ended"]
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
def test_a_show_that_fails_gives_the_reason(bundle: Path, error: StreamError, can_be_closed: bool) -> None:
    def failing() -> Iterator[VideoFrame]:
        yield flat_frame(0, pts=0)
        raise error

    upscaler = SwitchableFrameUpscaler(lambda choice: open_session(bundle, choice.runtime), CHOICES[0])
    stream = PreviewStream(ListSource(failing()), upscaler)
    stream.start()
    eventually(lambda: stream.figures()["state"] == "failed")
    assert stream.figures()["reason"] == str(error)
    assert stream.close() is can_be_closed
    upscaler.close()


def test_a_repeated_source_goes_on_in_number_and_time() -> None:
    opened: list[ListSource] = []

    def again() -> ListSource:
        opened.append(ListSource([flat_frame(number, pts=7 + number) for number in range(3)]))
        return opened[-1]

    source = RepeatedSource(again)
    frames = source.frames()
    found = [next(frames) for _ in range(7)]
    assert [frame.sequence for frame in found] == list(range(7))
    assert [frame.pts for frame in found] == list(range(7, 14))
    assert [number_of(frame) for frame in found] == [0, 1, 2, 0, 1, 2, 0]
    source.close()
    assert list(frames) == []
    assert all(used.closed.is_set() for used in opened)
    assert found[0].time_base == Fraction(1, 30)


def test_a_source_with_nothing_in_it_is_not_repeated() -> None:
    assert list(RepeatedSource(lambda: ListSource([])).frames()) == []


def test_the_command_serves_until_ctrl_c(bundle: Path, still: Path) -> None:
    command = [sys.executable, "-m", "sr_edge", "preview", str(bundle), str(still), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:(\d+)/ ", running.stdout.readline())
        assert address is not None
        with looking(int(address[1])) as page:
            assert next_frame(page).header["after"][:2] == [320, 180]
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 130, stderr
    assert stderr.splitlines()[-1:] == ["sr-edge: interrupted"], stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/nowhere.mp4", "/nowhere.mp4"),
        ("gst:nosuchelement", r'GStreamer|no element "nosuchelement"'),
    ],
)
def test_a_source_that_cannot_be_opened_is_named_before_anything_is_served(
    bundle: Path, source: str, reason: str
) -> None:
    command = [sys.executable, "-m", "sr_edge", "preview", str(bundle), source, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(reason, done.stderr), done.stderr


def test_the_listening_socket_is_this_machines_own() -> None:
    with listening_socket("127.0.0.1", 0) as listening:
        assert listening.family is socket.AF_INET
        assert listening.getsockname()[0] == "127.0.0.1"

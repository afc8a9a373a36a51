"""GStreamer pipelines as sources. They run in the system's Python, which has the bindings; skipped without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sr_edge
from tests.camera.fakes import TIMEOUT_S

pytestmark = pytest.mark.services

SYSTEM_PYTHON = "/usr/bin/python3"
ROOT = Path(sr_edge.__file__).resolve().parents[1]
PROGRAM = """
import json, sys
from fractions import Fraction
from sr_edge.errors import StreamError, UsageError
from sr_edge.camera import SourceOptions, open_source
events, frames = [], []
try:
    rate = Fraction(sys.argv[3]) if len(sys.argv) > 3 else None
    source = open_source("gst:" + sys.argv[1], SourceOptions(timeout_s=1.0, on_event=events.append, rate=rate))
    for frame in source.frames():
        frames.append([frame.format.value, frame.width, frame.height, frame.pts, float(frame.planes[0].mean())])
        if len(frames) == int(sys.argv[2]):
            source.close()
    print(json.dumps({"is_live": source.is_live, "frames": frames, "events": events}))
except (StreamError, UsageError) as error:
    print(json.dumps({"error": [str(error), error.problem, str(error.found), error.remedy]}))
"""


@pytest.fixture(scope="module", autouse=True)
def bindings() -> None:
    """Skips if the system's Python lacks the bindings, or is another version than this one."""
    code = "import sys, gi; gi.require_version('GstVideo', '1.0'); print(*sys.version_info[:2])"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip("gstreamer: /usr/bin/python3 does not exist")
    if done.returncode or done.stdout.split() != [str(number) for number in sys.version_info[:2]]:
        pytest.skip(
            "gstreamer: the system's Python has no bindings, or another version; `make setup-gst` installs them"
        )


def system_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), packages])}
    command = [SYSTEM_PYTHON, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT_S)


def run_pipeline(pipeline: str, count: int = 100, *rate: str) -> dict[str, Any]:
    done = system_python("-c", PROGRAM, pipeline, str(count), *rate)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    ("form", "name"), [("I420", "yuv420p"), ("NV12", "nv12"), ("RGB", "rgb24"), ("P010_10LE", "p010le")]
)
def test_every_frame_has_its_timestamp_and_odd_size(form: str, name: str) -> None:
    caps = f"video/x-raw,format={form},width=323,height=51,framerate=25/1"
    result = run_pipeline(f"videotestsrc num-buffers=3 pattern=white ! {caps}")
    assert not result["is_live"]
    assert [frame[:4] for frame in result["frames"]] == [[name, 323, 51, 40_000_000 * n] for n in range(3)]
    white_level = {"rgb24": 255, "p010le": 940 * 64}.get(name, 235)
    assert all(abs(frame[4] - white_level) <= (256 if name == "p010le" else 1) for frame in result["frames"])


def test_a_pipeline_without_a_rate_has_the_one_that_is_given() -> None:
    caps = "video/x-raw,format=RGB,width=64,height=48,framerate"
    without_times = f"fakesrc num-buffers=3 sizetype=fixed sizemax={64 * 48 * 3} ! {caps}=0/1"
    assert [frame[3] for frame in run_pipeline(without_times, 100, "25")["frames"]] == [0, 40_000_000, 80_000_000]
    message, _, found, remedy = run_pipeline(f"videotestsrc ! {caps}=30/1", 100, "25")["error"]
    assert found == "25" and "30" in message and "videorate" in remedy


def test_a_live_pipeline_that_ends_is_restarted() -> None:
    result = run_pipeline("videotestsrc is-live=true num-buffers=3 ! video/x-raw,format=RGB,width=32,height=16", 5)
    assert result["is_live"]
    times = [frame[3] for frame in result["frames"]]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert len(times) == 5
    lost, restarted = result["events"]
    assert all(line.startswith("gst:videotestsrc ") for line in (lost, restarted))
    assert "ended" in lost  # not a timeout


@pytest.mark.parametrize(
    ("pipeline", "shown", "reason"),
    [
        ("nosuchelement", "nosuchelement", 'no element "nosuchelement"'),
        ("videotestsrc ! video/x-raw,format=GRAY8", "videotestsrc ! video/x-raw,format=GRAY8", ""),
        (
            "filesrc location=/nonexistent ! decodebin",
            "filesrc location=/nonexistent ! decodebin",
            "filesrc0: Resource",
        ),
        ("fakesrc name=a user-pw=hunter2", "fakesrc name=a user-pw=***", ""),
    ],
)
def test_an_invalid_pipeline_is_an_error(pipeline: str, shown: str, reason: str) -> None:
    message, problem, found, remedy = run_pipeline(pipeline)["error"]
    assert found == f"gst:{shown}" and problem.startswith(f"gst:{shown}: ")
    assert reason in problem  # GStreamer's own text
    assert "gst-launch-1.0" in remedy
    assert "hunter2" not in message


def test_the_command_takes_a_pipeline(bundle: Path) -> None:
    program = "import sys; from sr_edge.cli import main; sys.argv[0] = 'sr-edge'; main()"
    pipeline = "gst:videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=40,height=32"
    done = system_python("-c", program, "stream", str(bundle), pipeline, "null", "--runtime", "onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stream"]["frames_out"] == 3

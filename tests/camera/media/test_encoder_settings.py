"""Encoders must not leave this process in front of all others; run as root, SVT-AV1 makes its caller real-time."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from sr_edge.camera import SinkOptions, open_sink
from sr_edge.camera.media.encoder_settings import scheduling_kept
from tests.camera.clips import flat_frame
from tests.camera.fakes import TIMEOUT_S, ListSource

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are scheduled so on Linux only")


def policies() -> set[int]:
    return {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}


def test_this_thread_and_new_ones_are_as_before() -> None:
    usual, leave, is_changed = os.sched_getscheduler(0), threading.Event(), threading.Event()

    def compute() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        is_changed.set()
        leave.wait(TIMEOUT_S)

    worker = threading.Thread(target=compute)
    with scheduling_kept():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        worker.start()
        assert is_changed.wait(TIMEOUT_S)
    found = os.sched_getscheduler(0), os.sched_getscheduler(worker.native_id or 0)
    leave.set()
    worker.join()
    assert found == (usual, usual)


@pytest.mark.parametrize("codec", ["libsvtav1", "libx264", "libx265"])
def test_no_encoder_changes_it(codec: str, tmp_path: Path) -> None:
    usual = os.sched_getscheduler(0)
    frames = [flat_frame(number, pts=number) for number in range(3)]
    sink = open_sink(str(tmp_path / "out.mkv"), ListSource(frames), SinkOptions(codec))
    for frame in frames:
        sink.write(frame)
    found = policies()
    sink.close()
    assert found == {usual}

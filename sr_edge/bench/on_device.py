"""Measures what only a GPU session can report: times by the GPU's clock, GPU memory, power and temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from sr_edge.bench.protocol import OpenVariant, no_progress
from sr_edge.bench.rows import DeviceFigures, Row
from sr_edge.errors import EngineError
from sr_edge.runtimes.tensorrt.session import DeviceLatency, DeviceMemory
from sr_edge.spec import StageProgress


@runtime_checkable
class MeasuresOnDevice(Protocol):
    """A session whose device has its own clock and memory."""

    device_memory: DeviceMemory

    def measure_on_device(self, runs: int = 20, warm_up: int = 3) -> DeviceLatency: ...


def with_device_figures(
    rows: Sequence[Row],
    opened: Sequence[OpenVariant | Row],
    runs: int,
    warm_up: int,
    progress: StageProgress = no_progress,
) -> list[Row]:
    """Adds the measurements of the devices to the rows of sessions that have them.

    Warnings about a measurement, and the error where it fails, are appended to the row's remarks.

    Args:
        rows: one for each entry of `opened`.
        opened: the open variants, and a row for each that could not be opened.
        runs: timed runs.
        warm_up: untimed runs before them.
        progress: called with (stage, steps done, steps in all).
    """
    sessions = [_device_session(entry) for entry in opened]
    total = len(sessions) - sessions.count(None)
    measured: list[Row] = []
    for index, (row, session) in enumerate(zip(rows, sessions, strict=True)):
        if session is None:
            measured.append(row)
            continue
        progress("on the device", index - sessions[:index].count(None), total)
        measured.append(_measured(row, session, runs, warm_up))
    if total:
        progress("on the device", total, total)
    return measured


def _device_session(entry: OpenVariant | Row) -> MeasuresOnDevice | None:
    session = entry.session if isinstance(entry, OpenVariant) else None
    return session if isinstance(session, MeasuresOnDevice) else None


def _measured(row: Row, session: MeasuresOnDevice, runs: int, warm_up: int) -> Row:
    try:
        latency = session.measure_on_device(runs, warm_up)
    except EngineError as error:
        return replace(row, remarks=(*row.remarks, str(error)))
    figures = DeviceFigures(latency, session.device_memory)
    return replace(row, on_device=figures, remarks=(*row.remarks, *latency.warnings))

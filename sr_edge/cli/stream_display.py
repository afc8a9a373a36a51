"""What `sr-edge stream` shows: a line that lives, a file of figures, a summary."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.bundle.plain import json_text
from sr_edge.whole_file import whole_file

if TYPE_CHECKING:
    from sr_edge.camera import LatencySummary, StreamReport
    from sr_edge.camera.sensors import Sensors

_LINE_EVERY_S = 10.0
_FILE_EVERY_S = 1.0
_CLEAR = "\r\x1b[K"


class Display:
    """Everything goes to stderr: on a terminal one line that is written over, else a line every ten seconds."""

    def __init__(self, stats_json: Path | None, sensors: Sensors | None = None) -> None:
        from sr_edge.camera.sensors import Sensors

        self._stats_json = stats_json
        self._sensors = sensors or Sensors()
        self._readings = self._sensors.read()
        self._is_terminal = sys.stderr.isatty()
        self._writing = threading.Lock()
        self._next_line_s = self._next_file_s = time.monotonic()

    def show_event(self, text: str) -> None:
        """One message, on a line of its own."""
        with self._writing:
            sys.stderr.write(f"{_CLEAR if self._is_terminal else ''}{text}\n")
            sys.stderr.flush()

    def tick(self, report: StreamReport) -> None:
        """Shows the stream so far, as often as it makes sense to call."""
        now_s = time.monotonic()
        self._readings = self._sensors.read()
        if self._is_terminal or now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            line = live_line(report, self._readings.temperature_c, self._readings.power_w)
            with self._writing:
                sys.stderr.write(f"{_CLEAR}{line}" if self._is_terminal else f"{line}\n")
                sys.stderr.flush()
        if now_s >= self._next_file_s:
            self._next_file_s = now_s + _FILE_EVERY_S
            self.write_file(report)

    def write_file(self, report: StreamReport) -> None:
        if self._stats_json is not None:
            with whole_file(self._stats_json) as unfinished:
                unfinished.write_text(json_text({**vars(report), **vars(self._readings)}), encoding="utf-8")

    def end(self) -> None:
        """Leaves the live line."""
        if self._is_terminal:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def live_line(report: StreamReport, temperature_c: float | None = None, power_w: float | None = None) -> str:
    """Rates over the last seconds, drops, latency, stages, queue, and heat and power where they are known."""
    parts = [
        f"in {report.recent_fps_in:.1f}/s out {report.recent_fps_out:.1f}/s",
        f"dropped {report.dropped}" + (f" failed {report.failed}" if report.failed else ""),
    ]
    if report.latency is not None:
        parts.append(f"latency p50 {report.latency.p50_ms:.0f} p95 {report.latency.p95_ms:.0f} ms")
    parts += [_stages(report), f"queue {report.queued}"]
    if temperature_c is not None:
        parts.append(f"{temperature_c:.0f} °C")
    if power_w is not None:
        parts.append(f"{power_w:.1f} W")
    return " | ".join(part for part in parts if part)


def summary(report: StreamReport) -> str:
    """The whole stream in a few lines."""
    lines = [
        f"{report.frames_in} frames in, {report.frames_out} out in {report.seconds:.1f} s ({report.fps_out:.1f}/s); "
        f"{report.dropped} dropped, {report.failed} failed, {report.unreadable_packets} packets unreadable"
    ]
    if report.latency is not None:
        lines.append(f"latency ms: {_percentiles(report.latency)}")
    lines += [f"{name} ms: {_percentiles(times)}" for name, times in report.stages.items()]
    if report.fallback_switches:
        lines.append(f"{report.fallback_frames} frames by the fallback, {report.fallback_switches} switches")
    if report.bicubic_frames:
        lines.append(f"{report.bicubic_frames} frames bicubic between those of the model")
    if report.reconnections:
        lines.append(f"the source was opened again {report.reconnections} times")
    if report.sink_reconnections:
        lines.append(f"the sink was opened again {report.sink_reconnections} times")
    return "\n".join(lines)


def _stages(report: StreamReport) -> str:
    return " ".join(f"{name} {times.p50_ms:.1f}" for name, times in report.stages.items() if name != "source") + " ms"


def _percentiles(times: LatencySummary) -> str:
    return f"p50 {times.p50_ms:.1f}, p95 {times.p95_ms:.1f}, p99 {times.p99_ms:.1f}, longest {times.max_ms:.1f}"

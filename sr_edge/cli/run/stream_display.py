"""Display of `sr-edge stream`: a live status line, a file of statistics, and a summary."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.bundle.plain import json_text
from sr_edge.cli.terminal import is_live_terminal, print_line, replace_line
from sr_edge.files.whole_file import whole_file

if TYPE_CHECKING:
    from sr_edge.camera import LatencySummary, StreamReport
    from sr_edge.runtimes.measure.sensors import Sensors

_LINE_EVERY_S = 10.0
_FILE_EVERY_S = 1.0


class Display:
    """Writes to stderr: on a terminal one line that is updated in place, else a line every ten seconds."""

    def __init__(self, stats_json: Path | None, sensors: Sensors | None = None) -> None:
        from sr_edge.runtimes.measure.sensors import Sensors

        self._stats_json = stats_json
        self._sensors = sensors or Sensors()
        self._readings = self._sensors.read()
        self._is_terminal = is_live_terminal(sys.stderr)
        # Events come from the threads of source and sink, status lines from the main thread.
        self._lock = threading.Lock()
        self._next_line_s = self._next_file_s = time.monotonic()

    def show_event(self, text: str) -> None:
        """Prints a message on a line of its own."""
        with self._lock:
            if self._is_terminal:
                replace_line("")
            print_line(text)

    def tick(self, report: StreamReport) -> None:
        """Updates line and file if they are due; call it as often as convenient."""
        now_s = time.monotonic()
        self._readings = self._sensors.read()
        if self._is_terminal or now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            line = live_line(report, self._readings.temperature_c, self._readings.power_w)
            with self._lock:
                (replace_line if self._is_terminal else print_line)(line)
        if now_s >= self._next_file_s:
            self._next_file_s = now_s + _FILE_EVERY_S
            self.write_file(report)

    def write_file(self, report: StreamReport) -> None:
        if self._stats_json is not None:
            with whole_file(self._stats_json, is_synced=False) as unfinished:
                unfinished.write_text(json_text({**vars(report), **vars(self._readings)}), encoding="utf-8")

    def end(self) -> None:
        """Clears the live line."""
        if self._is_terminal:
            replace_line("")


def live_line(report: StreamReport, temperature_c: float | None = None, power_w: float | None = None) -> str:
    """Rates over the last seconds, drops, latency, stages, queue, and temperature and power if available."""
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
    """Summary of the whole stream in a few lines."""
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

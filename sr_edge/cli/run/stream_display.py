"""Display of `sr-edge stream`: a live status line, a file of statistics, and a summary."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.bundle.plain import json_text
from sr_edge.cli.error_document import without_secrets_of_command
from sr_edge.cli.terminal import console_on, is_live_terminal, print_line, replace_line
from sr_edge.files.whole_file import whole_file
from sr_edge.upscaler.reuse_options import memory_text

if TYPE_CHECKING:
    from sr_edge.camera import LatencySummary, Policy, StreamReport
    from sr_edge.runtimes import SessionSpec
    from sr_edge.runtimes.measure.sensors import Readings, Sensors
    from sr_edge.upscaler.reuse import ReuseStatistics

_LINE_EVERY_S = 10.0
_FILE_EVERY_S = 1.0

Size = tuple[int, int]


@dataclass(frozen=True)
class StreamTitle:
    """What runs in a stream, as its first line and its summary name it."""

    session: SessionSpec
    policy: Policy

    def line(self, input_size: Size | None, output_size: Size | None) -> str:
        """Runtime, device, precision, sizes and policy; without sizes if there was no frame."""
        sizes = f", {_size(input_size)} -> {_size(output_size)}" if input_size and output_size else ""
        return f"{self.session}{sizes}, policy {self.policy}"

    def document(self) -> dict[str, object]:
        """The same for JSON."""
        return {"session": self.session, "policy": str(self.policy)}


class Display:
    """Writes to stderr: on a terminal one line that is updated in place, else a line every ten seconds."""

    def __init__(self, stats_json: Path | None, with_stages: bool = False, sensors: Sensors | None = None) -> None:
        """Prepares the display.

        Args:
            stats_json: the file of statistics; None for none.
            with_stages: whether the line contains the times of the stages.
            sensors: sensors of temperature and power; None for those of this machine.
        """
        from sr_edge.runtimes.measure.sensors import Sensors

        self._stats_json = stats_json
        self._with_stages = with_stages
        self._title: StreamTitle | None = None
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

    def show_start(self, title: StreamTitle, input_size: Size, output_size: Size) -> None:
        """Prints what runs, at the first frame."""
        self._title = title
        self.show_event(title.line(input_size, output_size))

    def tick(self, report: StreamReport) -> None:
        """Updates line and file if they are due; call it as often as convenient."""
        now_s = time.monotonic()
        self._readings = self._sensors.read()
        if self._is_terminal or now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            width = console_on(sys.stderr).width - 1 if self._is_terminal else None
            line = live_line(report, self._readings, width, self._with_stages)
            with self._lock:
                (replace_line if self._is_terminal else print_line)(line)
        if now_s >= self._next_file_s:
            self._next_file_s = now_s + _FILE_EVERY_S
            self.write_file(report)

    def figures(self, report: StreamReport) -> dict[str, object]:
        """The statistics as `--json` and `--stats-json` contain them."""
        return {**vars(report), **vars(self._readings)}

    def write_file(self, report: StreamReport) -> None:
        """Replaces the file of statistics, if there is one."""
        if self._stats_json is not None:
            with whole_file(self._stats_json, is_synced=False) as unfinished:
                title = self._title.document() if self._title else {}
                unfinished.write_text(json_text({**title, **self.figures(report)}, without_secrets_of_command), "utf-8")

    def end(self) -> None:
        """Clears the live line."""
        if self._is_terminal:
            replace_line("")


def live_line(
    report: StreamReport, readings: Readings | None = None, width: int | None = None, with_stages: bool = False
) -> str:
    """Rates over the last seconds, drops, latency, share of reused tiles, model, queue, temperature, power.

    Args:
        report: the statistics so far.
        readings: temperature and power; None for none.
        width: characters of a line. What does not fit is left out, the least important first; None for no limit.
        with_stages: whether the median times of the stages are wanted as well.
    """
    rates = f"in {report.recent_fps_in:.1f}/s out {report.recent_fps_out:.1f}/s"
    parts = [
        (0, rates),
        # A line of 80 columns has room for it only where frames were dropped or failed.
        (2 if report.dropped + report.failed else 7, _lost(report)),
        *((3, text) for text in _live_latencies(report)),
        (1, _stages(report, width and width - len(rates) - len(" | ")) if with_stages else ""),
        (4, "" if report.recent_reused_share is None else f"reused {report.recent_reused_share:.0%}"),
        (5, "" if report.recent_model_ms is None else f"model {report.recent_model_ms:.0f} ms"),
        (6, f"queue {report.queued}"),
    ]
    if readings is not None and readings.temperature_c is not None:
        parts.append((8, f"{readings.temperature_c:.0f} °C"))
    if readings is not None and readings.power_w is not None:
        parts.append((9, f"{readings.power_w:.1f} W"))
    return " | ".join(_fitting([part for part in parts if part[1]], width))


def _lost(report: StreamReport) -> str:
    return f"dropped {report.dropped}" + (f" failed {report.failed}" if report.failed else "")


def _fitting(parts: Sequence[tuple[int, str]], width: int | None) -> list[str]:
    """The texts in their order, as many as fit into a line, chosen by their rank."""
    free = float("inf") if width is None else width + len(" | ")
    kept = set()
    for index in sorted(range(len(parts)), key=lambda index: parts[index][0]):
        needed = len(parts[index][1]) + len(" | ")
        if needed <= free:
            free -= needed
            kept.add(index)
    return [text for index, (_, text) in enumerate(parts) if index in kept]


def _live_latencies(report: StreamReport) -> list[str]:
    """The latency; that of each upscaler apart if there are several."""
    if len(report.latencies) < 2:
        return [f"latency p50 {times.p50_ms:.0f} p95 {times.p95_ms:.0f} ms" for times in report.latencies.values()]
    return [
        f"{name} {times.count} of {report.frames_out}, p50 {times.p50_ms:.0f} ms"
        for name, times in report.latencies.items()
    ]


def summary(report: StreamReport, title: StreamTitle | None = None) -> str:
    """Summary of the whole stream in a few lines."""
    lines = [title.line(report.input_size, report.output_size)] if title else []
    lines += [
        f"{report.frames_in} frames in, {report.frames_out} out in {report.seconds:.1f} s ({report.fps_out:.1f}/s)",
        f"{report.dropped} dropped, {report.failed} failed, {report.unreadable_packets} packets unreadable",
    ]
    for name, times in report.latencies.items():
        lines += [f"{name}: {times.count} of {report.frames_out} frames", f"{name} latency ms: {_percentiles(times)}"]
    lines += [f"{name} ms: {_percentiles(times)}" for name, times in report.stages.items()]
    if report.reuse is not None:
        lines.append(_reuse_line(report.reuse))
    if report.fallback_switches:
        lines.append(f"{report.fallback_switches} switches between model and fallback")
    if report.reconnections:
        lines.append(f"the source was opened again {report.reconnections} times")
    if report.sink_reconnections:
        lines.append(f"the sink was opened again {report.sink_reconnections} times")
    return "\n".join(lines)


def _reuse_line(reuse: ReuseStatistics) -> str:
    needed, kept, most = map(memory_text, (reuse.needed_bytes, reuse.memory_bytes, reuse.most_bytes))
    if reuse.obstacle:
        return f"no tiles reused: those of one frame need {needed}, --reuse-memory is {most}"
    placed = f", {reuse.placed} placed around changed areas" if reuse.placed else ""
    return f"{reuse.reused} of {reuse.tiles} tiles reused ({reuse.share:.0%}){placed}, memory {kept} of {most}"


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _stages(report: StreamReport, width: int | None) -> str:
    """The median times of the stages; of the slowest ones if there is no room for all."""
    stages = {name: f"{name} {times.p50_ms:.1f}" for name, times in report.stages.items() if name != "source"}
    kept = sorted(stages, key=lambda name: -report.stages[name].p50_ms)
    while kept and width is not None and len(" ".join(stages[name] for name in kept)) + len(" ms") > width:
        kept.pop()
    return f"{' '.join(text for name, text in stages.items() if name in kept)} ms" if kept else ""


def _percentiles(times: LatencySummary) -> str:
    return f"p50 {times.p50_ms:.1f}, p95 {times.p95_ms:.1f}, p99 {times.p99_ms:.1f}, longest {times.max_ms:.1f}"

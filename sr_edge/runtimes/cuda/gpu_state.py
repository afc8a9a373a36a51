"""Power, clocks and temperature of a GPU, read from `nvidia-smi` (NVML) or a Jetson's `tegrastats`."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

_FIELDS = "power.draw,clocks.sm,clocks.max.sm,temperature.gpu"
_TIMEOUT_S = 5.0
_CLOCK_TOLERANCE = 0.02
"""Relative difference of two clock readings below which they count as equal."""


@dataclass(frozen=True)
class GpuState:
    """One reading; a value that the source does not report is None."""

    source: str
    power_w: float | None
    clock_mhz: float | None
    max_clock_mhz: float | None
    temperature_c: float | None


def read_gpu_state(index: int = 0) -> GpuState | None:
    """Reads the state through the tool that is installed; None if neither is, or neither reports anything."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--id={index}", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
        state = state_from_nvidia_smi(_first_line(command))
        if state is not None:
            return state
    if shutil.which("tegrastats"):
        return state_from_tegrastats(_first_line(["tegrastats", "--interval", "100"]))
    return None


def state_from_nvidia_smi(line: str) -> GpuState | None:
    """Parses "41.20, 1410, 1980, 46"; None without a clock, as on a Jetson, whose nvidia-smi prints [N/A]."""
    values = [_number(cell) for cell in line.split(",")]
    if len(values) != len(_FIELDS.split(",")) or values[1] is None:
        return None
    return GpuState("nvidia-smi", *values)


def state_from_tegrastats(line: str) -> GpuState | None:
    """Parses a line of tegrastats: "... GR3D_FREQ 45%@[624] ... gpu@48.5C ... VDD_IN 5120mW/5004mW"."""
    clock = re.search(r"GR3D_FREQ \d+%@\[?(\d+)", line)
    temperature = re.search(r"\bgpu@(-?[\d.]+)C", line, re.IGNORECASE)
    power = re.search(r"\b(?:VDD_IN|POM_5V_IN|VIN_SYS_5V0) (\d+)(?:mW)?/", line)
    if not (clock or temperature or power):
        return None
    return GpuState(
        "tegrastats",
        power_w=int(power[1]) / 1000 if power else None,
        clock_mhz=float(clock[1]) if clock else None,
        max_clock_mhz=None,
        temperature_c=float(temperature[1]) if temperature else None,
    )


def clock_warning(before: GpuState | None, after: GpuState | None) -> str | None:
    """A warning where the GPU's clock changed between two readings: times measured meanwhile cannot be compared."""
    first, last = (state.clock_mhz if state else None for state in (before, after))
    if first is None or last is None or abs(first - last) <= _CLOCK_TOLERANCE * max(first, last):
        return None
    return (
        f"the GPU's clock went from {first:.0f} to {last:.0f} MHz meanwhile: clocks are not locked; lock them with "
        "`sudo nvidia-smi --lock-gpu-clocks` (on a Jetson: `sudo jetson_clocks`) and measure again"
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _first_line(command: list[str]) -> str:
    """The first line that `command` prints. The process is terminated then, because tegrastats never ends by itself."""
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                return process.stdout.readline() if process.stdout else ""
            finally:
                process.terminate()
                process.wait(_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""

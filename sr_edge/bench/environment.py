"""Describes what a measurement depends on besides the program: machine, clocks, load and library versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sr_edge.runtimes import RUNTIMES, Machine, describe_machine

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_TOOLS = ("sr-edge", "numpy", "onnx", "onnxsim", *(entry.library for entry in RUNTIMES))


@dataclass(frozen=True)
class Environment:
    """The environment when a benchmark starts. `clock_mhz` and `governor` are None if they cannot be read.

    Attributes:
        machine: The computer.
        versions: Version of each program and library.
        clock_mhz: Clock of the CPU; None if it cannot be read.
        governor: What controls the clock; None if it cannot be read.
        load_average: Load of the last minute, which includes other programs.
        started: Date and time, UTC.
    """

    machine: Machine
    versions: Mapping[str, str]
    clock_mhz: float | None
    governor: str | None
    load_average: float
    started: str


def describe_environment() -> Environment:
    """Describes the machine as it is now; `load_average` is that of the last minute and includes other programs."""
    return Environment(
        machine=describe_machine(),
        versions=tool_versions(),
        clock_mhz=_clock_mhz(),
        governor=_GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else None,
        load_average=psutil.getloadavg()[0],
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def tool_versions() -> dict[str, str]:
    """Versions of the installed packages that take part, without importing them."""
    versions = {}
    for name in _TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _clock_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return None
    return round(frequency.current) if frequency else None

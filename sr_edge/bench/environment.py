"""Describes what a measurement depends on besides the program: machine, clocks, load and library versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sr_edge.runtimes import RUNTIMES, Machine, SessionSpec, describe_machine
from sr_edge.spec import Precision

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


def caveats(spec: SessionSpec, machine: Machine) -> tuple[str, ...]:
    """What this machine does to the figures of a session that a user would look for in the network.

    Args:
        spec: The spec of the session.
        machine: The computer that it runs on.
    """
    if spec.requested is Precision.INT8 and spec.device == "cpu" and machine.saturates_int8:
        return ("this CPU has no VNNI: sums of INT8 products saturate at 16 bits, which loses quality",)
    return ()


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

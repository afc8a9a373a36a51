"""Describes this machine and which runtimes work on it, for `sr-edge doctor`."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sr_edge.runtimes.engine.cores import usable_cores
from sr_edge.runtimes.registry import RUNTIMES, RuntimeEntry, availability
from sr_edge.runtimes.session import Availability

CPUINFO = Path("/proc/cpuinfo")
_LOW_PRECISION_FLAGS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "amx_fp16",
    "asimddp",
    "asimdhp",
    "bf16",
    "i8mm",
    "sve",
)
"""x86 and Arm instruction sets that decide how fast INT8, bf16 and fp16 are."""


@dataclass(frozen=True)
class Machine:
    """The computer. `cpu_flags` are the instruction sets for INT8, bf16 and fp16; None if they cannot be read.

    Attributes:
        system: Operating system.
        python: Version of Python.
        cpu: Name of the CPU.
        usable_cores: Cores that this process may use.
        memory_bytes: Memory of the machine.
        cpu_flags: Instruction sets.
    """

    system: str
    python: str
    cpu: str
    usable_cores: int
    memory_bytes: int
    cpu_flags: tuple[str, ...] | None

    @property
    def saturates_int8(self) -> bool:
        """Whether INT8 kernels for this CPU may add two products in 16 bits, which overflow: x86-64 without VNNI.

        OpenVINO and ONNX Runtime do so with `vpmaddubsw` in their products of UINT8 activations and INT8 weights.
        """
        is_x86_64 = self.system.endswith("x86_64")
        return is_x86_64 and self.cpu_flags is not None and not {"avx_vnni", "avx512_vnni"} & {*self.cpu_flags}


@dataclass(frozen=True)
class RuntimeReport:
    """One runtime of the registry, and whether it works on this machine.

    Attributes:
        entry: The entry of the registry.
        availability: Whether it works here.
    """

    entry: RuntimeEntry
    availability: Availability


@dataclass(frozen=True)
class Diagnosis:
    """The machine and all runtimes of the registry.

    Attributes:
        machine: The computer.
        runtimes: Each runtime.
    """

    machine: Machine
    runtimes: tuple[RuntimeReport, ...]


def diagnose() -> Diagnosis:
    """Imports every runtime's library and queries its devices, which takes seconds; what fails is in the report."""
    reports = tuple(RuntimeReport(entry, availability(entry.name)) for entry in RUNTIMES)
    return Diagnosis(describe_machine(), reports)


def describe_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """Describes the computer as a published measurement must; `cpuinfo` is Linux's description of its CPU."""
    cpu_info = _first_values(cpuinfo)
    flags = cpu_info.get("flags") or cpu_info.get("Features")
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cpu=cpu_info.get("model name") or platform.processor() or platform.machine(),
        usable_cores=usable_cores(),
        memory_bytes=int(psutil.virtual_memory().total),
        cpu_flags=None if flags is None else tuple(flag for flag in _LOW_PRECISION_FLAGS if flag in flags.split()),
    )


def _first_values(cpuinfo: Path) -> dict[str, str]:
    """The first value of every key; empty if the file does not exist."""
    if not cpuinfo.exists():
        return {}
    pairs = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    cpu_info: dict[str, str] = {}
    for key, _, value in pairs:
        cpu_info.setdefault(key.strip(), value.strip())
    return cpu_info

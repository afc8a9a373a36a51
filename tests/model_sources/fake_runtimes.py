"""Runtimes without libraries, for tests of the choice of an engine: each has a version, devices and precisions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType

import pytest

from sr_edge.bundle import Artifact, Fingerprint
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable
from sr_edge.runtimes import describe_machine, registry
from sr_edge.runtimes.registry import RuntimeEntry
from sr_edge.runtimes.session import Availability, Device, Session, SessionRequest
from sr_edge.spec import FrameFormat, Precision

GPU = "NVIDIA Orin"


@dataclass(frozen=True)
class FakeRuntime:
    """A runtime that works on one device.

    Attributes:
        name: Its name.
        device: The device.
        version: Its version; empty if its library is not installed.
        precisions: What it computes.
    """

    name: str
    device: str = "cpu"
    version: str = "1.0"
    precisions: Sequence[Precision] = field(default=tuple(Precision))

    def availability(self) -> Availability:
        described = GPU if self.device == "cuda" else "a CPU"
        return Availability(True, self.version, (Device(self.device, described, tuple(self.precisions)),))

    def obstacle(self, precision: Precision, device: str) -> PrecisionUnavailable | None:
        if device != self.device:
            raise RuntimeUnavailable(f"{self.name} has no device {device}", found=device)
        return None if precision in self.precisions else PrecisionUnavailable("none", found=precision)

    def choose_artifact(
        self, artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
    ) -> Artifact | None:
        return next((each for each in artifacts if each.precision is precision), None)

    def open_request(self, request: SessionRequest) -> Session:
        raise RuntimeUnavailable(f"{self.name} opens nothing", found=request.device)

    @property
    def fingerprint(self) -> Fingerprint:
        """That of its device, on this machine."""
        if self.device == "cuda":
            return Fingerprint("cuda", GPU, (), self.version)
        machine = describe_machine()
        return Fingerprint("cpu", machine.cpu, machine.cpu_flags or (), self.version)


def install(monkeypatch: pytest.MonkeyPatch, *runtimes: FakeRuntime) -> None:
    """Makes these the only runtimes of this machine, the first of them the preferred one."""
    entries = []
    for runtime in runtimes:
        module_name = f"fake_{runtime.name.replace('-', '_')}"
        module = ModuleType(module_name)
        module.load = lambda name, runtime=runtime: runtime  # type: ignore[attr-defined]
        if runtime.version:
            monkeypatch.setitem(sys.modules, module_name, module)
        entries.append(
            RuntimeEntry(runtime.name, module_name, module_name, "none", "", device=runtime.device, factory="load")
        )
    monkeypatch.setattr(registry, "RUNTIMES", tuple(entries))
    monkeypatch.setattr(registry, "PREFERRED_RUNTIMES", tuple(runtime.name for runtime in runtimes))

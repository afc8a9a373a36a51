"""What `sr-edge bench` recommended on this machine, kept in the user's cache, and this machine's fingerprint.

A bundle is not changed after it was built, so a later measurement of it is a file beside the engines:
`measurements/BUNDLE-MACHINE.json`, named after the digest of the bundle and that of the machine, so that a home folder
that several machines share has one file for each.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.bundle import Fingerprint, Manifest, RecommendedEngine
from sr_edge.bundle.consistency import require_printable
from sr_edge.bundle.plain import from_plain, json_text
from sr_edge.errors import BundleError
from sr_edge.files.cache_folder import cache_folder
from sr_edge.files.whole_file import whole_file
from sr_edge.runtimes.measure.doctor import Machine, describe_machine
from sr_edge.runtimes.registry import availability
from sr_edge.runtimes.session import Availability

MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredMeasurement:
    """The content of one file: what was recommended for the bundle with that digest, the fastest runtime first."""

    bundle_digest: str
    recommendations: tuple[RecommendedEngine, ...]

    def __post_init__(self) -> None:
        if not all(math.isfinite(engine.latency_ms) for engine in self.recommendations):
            raise BundleError("a time is not a finite number", found=self.recommendations, remedy="measure again")


def fingerprint_of(
    device: str, version: str, machine: Machine | None = None, available: Availability | None = None
) -> Fingerprint:
    """The fingerprint of a device of this machine, in a runtime of that version.

    Args:
        device: Name of the device, as the runtime calls it.
        version: Version of the runtime.
        machine: This machine; None describes it.
        available: What the runtime offers on this machine; it has the names of devices other than the CPU.
    """
    machine = machine or describe_machine()
    if device == "cpu":
        return Fingerprint(device, machine.cpu, machine.cpu_flags or (), version)
    devices = {each.name: each.description for each in available.devices} if available else {}
    return Fingerprint(device, devices.get(device) or devices.get(f"{device}:0", ""), (), version)


def fingerprint_here(runtime: str, device: str) -> Fingerprint | None:
    """The fingerprint of a runtime and a device of this machine; None where the runtime does not work or has no such
    device.
    """
    available = availability(runtime)
    names = {each.name for each in available.devices}
    if not available.works or not names & {device, f"{device}:0"}:
        return None
    return fingerprint_of(device, available.version, available=available)


def measurement_file(bundle: Manifest) -> Path:
    """Where this machine keeps the measurement of a bundle."""
    machine = describe_machine()
    hardware = json.dumps([machine.cpu, machine.cpu_flags])
    machine_digest = hashlib.sha256(hardware.encode()).hexdigest()
    return cache_folder("measurements") / f"{bundle.digest()[:32]}-{machine_digest[:16]}.json"


def store_recommendations(bundle: Manifest, recommendations: Sequence[RecommendedEngine]) -> Path:
    """Writes what was recommended for a bundle to the user's cache, in place of an older measurement.

    Returns:
        The file.

    Raises:
        OSError: The cache cannot be written.
    """
    file = measurement_file(bundle)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as unfinished:
        text = json_text(StoredMeasurement(bundle.digest(), tuple(recommendations)))
        unfinished.write_text(text, encoding="utf-8")
    return file


def stored_recommendations(bundle: Manifest) -> tuple[tuple[RecommendedEngine, ...], str]:
    """What `bench` recommended for a bundle on this machine.

    Returns:
        The recommendations, the fastest runtime first, and why the file with them cannot be used. Both are empty
        without a file.
    """
    try:
        file = measurement_file(bundle)
        if not file.is_file():
            return (), ""
        if file.stat().st_size > MAX_FILE_BYTES:
            return (), f"{file} is too large to be a measurement"
        stored = from_plain(StoredMeasurement, json.loads(file.read_bytes()), file.name)
        require_printable(stored, file.name)
    except (OSError, ValueError, RecursionError, RuntimeError) as error:  # RuntimeError: there is no home folder
        return (), f"the measurement in the cache cannot be read ({error})"
    except BundleError as error:
        return (), f"the measurement in the cache is damaged ({error.problem})"
    if stored.bundle_digest != bundle.digest():
        return (), f"{file} is the measurement of another bundle"
    return stored.recommendations, ""

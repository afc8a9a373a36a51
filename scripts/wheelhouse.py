"""Collects the wheels that a device needs, so that it can install sr-edge without a network: see docs/install.md.

    python scripts/wheelhouse.py dist/sr_edge-0.1.0-py3-none-any.whl --platform aarch64 --python 3.10 --extras tensorrt

`pip download` takes wheels of another machine, but decides by the machine it runs on which dependencies apply
(`python_version < "3.11"`). Therefore the dependencies of the wheels that it brought are followed here as the device
will follow them, and what is absent is downloaded too, until nothing is.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from sr_edge.errors import SrEdgeError, UsageError

PROJECT = "sr-edge"
MACHINES = ("aarch64", "x86_64")
MIN_PYTHON = (3, 10)
GLIBC = range(31, 16, -1)
"""Minor versions of glibc 2 whose wheels are taken: all that run on Debian 11, JetPack 6 and what is newer."""
JETPACK_6 = "cuda-python<13"
"""JetPack 6, the Jetsons' release with Python 3.10, has CUDA 12."""
MAX_ROUNDS = 5


@dataclass(frozen=True)
class Device:
    """What wheels are collected for: Linux with glibc on `machine`, and CPython `python`."""

    machine: str
    python: tuple[int, int]

    @property
    def python_text(self) -> str:
        return ".".join(map(str, self.python))

    def platforms(self) -> list[str]:
        """The platform tags of pip, the preferred one first."""
        return [*(f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC), f"manylinux2014_{self.machine}"]

    def markers(self, extra: str) -> dict[str, str]:
        """The environment in which the markers of dependencies are evaluated."""
        return {
            "extra": extra,
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_text}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python_text}.0",
            "python_version": self.python_text,
            "sys_platform": "linux",
        }


def device_of(machine: str, python: str) -> Device:
    """Checks what was asked for; raises UsageError."""
    if machine not in MACHINES:
        raise UsageError(
            f"there is no wheelhouse for the platform {machine!r}",
            found=machine,
            wanted=MACHINES,
            remedy=f"choose one of: {', '.join(MACHINES)}",
        )
    parts = python.split(".")
    version = tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()
    if len(version) != 2 or version < MIN_PYTHON:
        raise UsageError(
            f"{python!r} is not a version of Python that sr-edge runs in",
            found=python,
            wanted=MIN_PYTHON,
            remedy="give the device's version, 3.10 or newer, with two numbers: 3.10",
        )
    return Device(machine, (version[0], version[1]))


def require_extras(wheel: Path, extras: list[str]) -> None:
    """Raises UsageError unless `wheel` is a wheel that has `extras`, which pip would only warn of."""
    if wheel.suffix != ".whl" or not zipfile.is_zipfile(wheel):
        raise UsageError(f"{wheel} is not a wheel", found=wheel, wanted="a wheel", remedy="build it with `make wheel`")
    known = metadata_of(wheel).get_all("Provides-Extra", [])
    unknown = [extra for extra in extras if canonicalize_name(extra) not in map(canonicalize_name, known)]
    if unknown:
        raise UsageError(
            f"sr-edge has no extra {', '.join(map(repr, unknown))}",
            found=unknown,
            wanted=known,
            remedy=f"choose among: {', '.join(known)}",
        )


def wishes(wheel: Path, extras: list[str], also: list[str], device: Device) -> list[str]:
    """The requirements of the device: the wheel itself with `extras`, and other packages."""
    jetpack_6 = device == Device("aarch64", (3, 10)) and "tensorrt" in extras
    pinned = [JETPACK_6] if jetpack_6 and not any(wish.startswith("cuda-python") for wish in also) else []
    return [f"{PROJECT}[{','.join(extras)}] @ {wheel.resolve().as_uri()}", *also, *pinned]


def absent_wheels(wanted: list[str], folder: Path, device: Device) -> list[str]:
    """The requirements that follow from `wanted` on `device` and that no wheel in `folder` meets."""
    wheels = {parse_wheel_filename(path.name)[0]: path for path in sorted(folder.glob("*.whl"))}
    waiting, seen, absent = [Requirement(text) for text in wanted], set[tuple[str, str]](), []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wheel = wheels.get(name)
        version = parse_wheel_filename(wheel.name)[1] if wheel else None
        if wheel is None or (version and not requirement.specifier.contains(version, prereleases=True)):
            absent.append(f"{requirement.name}{requirement.specifier}")
            continue
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += dependencies_of(wheel, device, extra)
    return sorted(set(absent))


def dependencies_of(wheel: Path, device: Device, extra: str) -> Iterator[Requirement]:
    """What the metadata of a wheel requires on `device`: without an extra, or what `extra` adds."""
    for text in metadata_of(wheel).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        marker = requirement.marker
        if marker.evaluate(device.markers(extra)) if marker else extra == "":
            yield requirement


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(metadata))


def download(wanted: list[str], folder: Path, device: Device) -> None:
    """Runs `pip download` for `device`; raises SrEdgeError with pip's reason."""
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", device.python_text]
    for tag in device.platforms():
        options += ["--platform", tag]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run([*command, *options, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SrEdgeError(
            f"pip has no wheels of all packages for Python {device.python_text} on {device.machine}: "
            f"{reasons[-1] if reasons else done.stderr.strip()[-300:]}",
            found=done.returncode,
            wanted=wanted,
            remedy="check the network, the platform, the Python and the extras",
        )


def download_all(wanted: list[str], folder: Path, device: Device) -> None:
    """Downloads `wanted` and all that follows from it on `device`."""
    missing: list[str] = []
    for _ in range(MAX_ROUNDS):
        download([*wanted, *missing], folder, device)
        absent = absent_wheels(wanted, folder, device)
        if not absent:
            return
        missing += absent
    raise SrEdgeError(
        f"the wheels do not fit each other: {', '.join(absent)} cannot be met",
        found=absent,
        wanted=wanted,
        remedy="name a version of the package that asks for it with --also",
    )


def collect(wheel: Path, extras: list[str], also: list[str], device: Device, target: Path) -> None:
    """Fills `target` with the wheels; a wheelhouse that was there is replaced once the new one is complete."""
    require_extras(wheel, extras)
    if target.exists() and (not target.is_dir() or any(path.suffix != ".whl" for path in target.iterdir())):
        raise UsageError(
            f"{target} holds something other than wheels and is not replaced",
            found=target,
            wanted="a new folder, or an earlier wheelhouse",
            remedy="choose another folder or remove it",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        download_all(wishes(wheel, extras, also, device), folder, device)
        if target.exists():
            shutil.rmtree(target)
        folder.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path, help="the wheel of sr-edge, from `make wheel`")
    parser.add_argument("--platform", default=platform.machine(), help="machine of the device: aarch64 or x86_64")
    parser.add_argument("--python", default=".".join(platform.python_version_tuple()[:2]), help="version, such as 3.10")
    parser.add_argument("--extras", help="extras, separated by commas (default: tensorrt on aarch64, else openvino)")
    parser.add_argument("--also", action="append", default=[], help="another package, such as 'cuda-python<13'")
    parser.add_argument("--into", type=Path, default=Path("wheelhouse"), help="the folder to write")
    options = parser.parse_args()
    try:
        device = device_of(options.platform, options.python)
        chosen = options.extras or ("tensorrt" if device.machine == "aarch64" else "openvino")
        extras = [extra.strip() for extra in chosen.split(",")]
        name = f"{PROJECT}[{','.join(extras)}]"
        print(f"downloading the wheels of {name} for Python {device.python_text} on Linux {device.machine}", flush=True)
        collect(options.wheel, extras, options.also, device, options.into)
    except SrEdgeError as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("wheelhouse: interrupted", file=sys.stderr)
        return 130
    wheels = list(options.into.glob("*.whl"))
    size_mb = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{options.into}: {len(wheels)} wheels, {size_mb:.0f} MB. Copy the folder to the device and run there:")
    print(f'pip install --no-index --find-links {options.into.name} "{name}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())

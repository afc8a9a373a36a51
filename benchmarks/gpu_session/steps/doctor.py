"""What is there: interpreter, packages, libraries, driver, devices, memory, clocks, and which runtimes work.

Each part stands alone: what a part lacks is told as its problem, and the parts after it are still tried.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gpu_session.process import NOT_POSSIBLE
from gpu_session.reporting import publish
from gpu_session.telemetry import Telemetry

PACKAGES = (
    "numpy", "onnx", "pillow", "psutil", "rich", "typer", "torch", "triton", "tensorrt", "tensorrt-rtx-cu13",
    "onnxruntime", "onnxruntime-gpu", "openvino", "onnxsim", "onnxscript", "safetensors", "cuda-python",
    "cuda-bindings", "pycuda", "pytest",
)  # fmt: skip
SHARED_LIBRARIES = ("libcuda", "libcudart", "libcudnn", "libnvinfer", "libtensorrt_rtx")


def interpreter() -> dict[str, str]:
    """Which Python this is and where it runs."""
    return {"python": platform.python_version(), "executable": sys.executable, "machine": platform.platform()}


def packages() -> dict[str, str]:
    """Versions of the packages that matter; nothing is imported for it."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def shared_libraries() -> list[str]:
    """Those of SHARED_LIBRARIES that the system's loader knows."""
    program = shutil.which("ldconfig") or "/sbin/ldconfig"
    listed = subprocess.run([program, "-p"], capture_output=True, text=True, check=True, timeout=10).stdout
    names = {line.split()[0] for line in listed.splitlines()[1:] if line.strip()}
    return sorted(name for name in names if re.match("|".join(SHARED_LIBRARIES), name))


def nvidia_smi() -> Any:
    """The first GPU as the driver's own tool tells it."""
    telemetry = Telemetry(os.environ.get("PATH", os.defpath))
    reading = telemetry.read()
    if reading is None:
        raise LookupError(telemetry.obstacle)
    return reading


def cuda_devices() -> dict[str, Any]:
    """GPUs by each way to CUDA that the product has; a way that is closed tells why."""
    from sr_edge.errors import RuntimeUnavailable
    from sr_edge.runtimes.cuda.providers import PROVIDERS, find_gpus

    found: dict[str, Any] = {}
    for provider in PROVIDERS:
        try:
            found[provider] = find_gpus(provider)
        except RuntimeUnavailable as error:
            found[provider] = str(error)
    return found


def runtimes() -> list[dict[str, Any]]:
    """What `sr-edge doctor` says of each runtime."""
    from sr_edge.runtimes import diagnose

    return [{"runtime": report.entry.name, **vars(report.availability)} for report in diagnose().runtimes]


def torch_device() -> dict[str, Any]:
    """The device as PyTorch sees it."""
    import torch

    found: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda, "works": False}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found |= {
            "works": True,
            "name": device.name,
            "compute_capability": f"{device.major}.{device.minor}",
            "total_bytes": device.total_memory,
            "multiprocessors": device.multi_processor_count,
            "architectures": torch.cuda.get_arch_list(),
        }
    return found


def environment() -> Any:
    """What every published figure of this project is published with."""
    from sr_edge.bench import describe_environment

    return describe_environment()


PARTS: tuple[Callable[[], Any], ...] = (
    interpreter,
    packages,
    shared_libraries,
    nvidia_smi,
    environment,
    cuda_devices,
    torch_device,
    runtimes,
)


def device_of(parts: dict[str, Any]) -> dict[str, Any] | None:
    """Name, compute capability and memory of the GPU, by the first part that knows them; None where none does."""
    for gpus in (parts.get("cuda_devices") or {}).values():
        if not isinstance(gpus, str) and gpus:
            gpu = gpus[0]
            return {
                "name": gpu.name, "compute_capability": gpu.compute_capability, "total_bytes": gpu.total_bytes
            }  # fmt: skip
    seen = parts.get("torch_device") or {}
    if seen.get("works"):
        return {name: seen[name] for name in ("name", "compute_capability", "total_bytes")}
    told = parts.get("nvidia_smi")
    if told:
        total_bytes = int((told["memory_mib"] or 0) * 2**20)
        return {
            "name": told["name"], "compute_capability": told["compute_capability"], "total_bytes": total_bytes
        }  # fmt: skip
    return None


def obstacles(parts: dict[str, Any], problems: dict[str, str]) -> list[str]:
    """Why each part that could know a GPU knows none."""
    closed = [
        f"{provider}: {told}" for provider, told in parts.get("cuda_devices", {}).items() if isinstance(told, str)
    ]
    torch = parts.get("torch_device")
    without = [f"torch {torch['version']} sees no CUDA device"] if torch and not torch["works"] else []
    absent = [problems[name] for name in ("nvidia_smi", "cuda_devices", "torch_device") if name in problems]
    return [*absent, *closed, *without]


def main(arguments: Sequence[str]) -> None:
    parts: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for part in PARTS:
        try:
            parts[part.__name__] = part()
        except Exception as error:  # whatever a library raises while it is imported or asked
            if not isinstance(error, (ImportError, LookupError)):
                traceback.print_exc()
            problems[part.__name__] = str(error).partition("\n")[0] or type(error).__name__
        complete = part is PARTS[-1]
        publish({**parts, "device": device_of(parts), "problems": problems, "complete": complete})
    for name, problem in problems.items():
        print(f"{name}: {problem}")
    if device_of(parts) is None:
        print(f"no NVIDIA GPU was found: {'; '.join(obstacles(parts, problems))}")
        sys.exit(NOT_POSSIBLE)

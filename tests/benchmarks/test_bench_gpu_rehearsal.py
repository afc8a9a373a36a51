"""`make bench-gpu` rehearsed: a stand-in GPU whose memory is the host's, whose TensorRT is ONNX Runtime.

Engines are built by the product's own code, replay real golden frames and are measured; nothing of it can be published.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sr_edge.bundle import open_bundle
from sr_edge.errors import UsageError
from sr_edge.spec import Precision
from tests.benchmarks.gpu_sessions import STAND_IN, GpuSession, bench_gpu, loaded, plain_environment
from tests.runtimes.here import require_runtime

pytestmark = pytest.mark.services

NETWORK = "convnet-tiny-x2"
REFUSING_RTX = """
from enum import IntEnum
__version__ = "1.7.1.116"
class ComputeCapability(IntEnum):
    SM86, SM120 = range(2)
"""


@pytest.fixture(scope="module")
def gpu() -> Iterator[GpuSession]:
    yield from loaded()


@pytest.fixture(scope="module")
def material(gpu: GpuSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the smallest network, with the smallest tile."""
    require_runtime("onnxruntime")
    folder = tmp_path_factory.mktemp("material")
    bundles: Any = importlib.import_module("gpu_session.bundles")
    bundles.write_slim_bundle("convnet-tiny", 2, "24x24", folder / "bundles" / f"{NETWORK}.sredge")
    return folder


def rehearse(material: Path, results: Path, steps: tuple[str, ...], libraries: Path = STAND_IN) -> Any:
    """The document of a session of these steps."""
    command = bench_gpu(
        sys.executable, "--only", *steps, "--results", results, "--material", material, "--libraries", libraries
    )
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = results.glob("*/gpu.json")
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_bundle_has_what_a_gpu_runs_and_nothing_else(material: Path) -> None:
    with open_bundle(material / "bundles" / f"{NETWORK}.sredge") as bundle:
        bundle.verify()
        kinds = {(artifact.precision, artifact.float_precision) for artifact in bundle.manifest.artifacts}
        goldens = {frame.precision for frame in bundle.manifest.golden}
    assert kinds == {(Precision.FP16, Precision.FP16), (Precision.INT8, Precision.FP16)}
    assert {Precision.FP16, Precision.INT8} <= goldens


def test_engines_are_built_tested_and_timed(gpu: GpuSession, material: Path, tmp_path: Path) -> None:
    document = rehearse(material, tmp_path, (f"engines-{NETWORK}", "features", "roofline"))
    steps = {step["name"]: step for step in document["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(steps, "done"), steps
    rows = steps[f"engines-{NETWORK}"]["figures"]["rows"]
    assert [(row["precision"], row["ran"], row["passed"]) for row in rows] == [
        ("fp16", "fp16", True),
        ("int8+fp16", "int8", True),
    ]
    assert all(row["on_device"]["latency"]["compute"]["p50_ms"] > 0 for row in rows)
    checks = steps["features"]["figures"]["checks"]
    assert [check["kept"] for check in checks[:5]] == [True] * 5, checks
    assert len(checks) == 6  # and the second way to CUDA, which need not be installed
    rates = steps["roofline"]["figures"]
    assert rates["matmul_macs_per_s"]["fp16"] > 0 and rates["copy_bytes_per_s"] > 0
    assert steps["features"]["after"]["power_w"] == 42.5
    with pytest.raises(UsageError):
        gpu.publishing.kept_figures(document)


def test_rtx_refuses_compute_capability_9_and_the_rest_goes_on(material: Path, tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    shutil.copytree(STAND_IN, libraries, ignore=shutil.ignore_patterns("tensorrt", "__pycache__"))
    (libraries / "tensorrt_rtx.py").write_text(REFUSING_RTX, encoding="utf-8")
    runtime = libraries / "cuda" / "bindings" / "runtime.py"
    runtime.write_text(runtime.read_text().replace("major=8, minor=6", "major=9, minor=0"), encoding="utf-8")
    results = tmp_path / "results"
    document = rehearse(material, results, (f"engines-{NETWORK}", "features", "gpu-tests"), libraries)
    steps = {step["name"]: step for step in document["steps"]}
    for name in (f"engines-{NETWORK}", "features"):
        assert steps[name]["status"] == "not possible here"
        assert "9.0" in steps[name]["reason"] and "8.6, 12.0" in steps[name]["reason"]
    assert steps["gpu-tests"]["figures"]["passed"] > 0  # those of CUDA alone

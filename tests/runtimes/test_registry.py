"""The registry: names, absent libraries, what is chosen from a bundle, and a silent, offline start."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bundle import Artifact, ArtifactKind, Manifest, open_bundle, sha256_of, staging_folder, write_bundle
from sr_edge.bundle.plain import to_plain
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable, UnknownNameError, UsageError
from sr_edge.installation import how_to_install
from sr_edge.model_sources import open_session
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import RUNTIMES, availability, load_runtime, open_request, request_from_bundle, supports
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, Precision, TileSpec
from tests.expected_errors import raises

Array = npt.NDArray[np.float32]
FP32, BF16, FP16, INT8 = Precision
S8, U8 = ActivationType
FLOAT, UINT8, NV12 = FrameFormat


def artifact(
    file: str,
    precision: Precision = FP32,
    float_precision: Precision = FP32,
    activation_type: ActivationType | None = None,
    io: FrameFormat = FLOAT,
    kind: ArtifactKind = ArtifactKind.ONNX,
    sha256: str = "0" * 64,
) -> Artifact:
    colour = Nv12Colour.BT709_LIMITED if io is NV12 else None
    shape = (1, 3, 16, 24)
    return Artifact(file, kind, precision, float_precision, activation_type, io, shape, sha256, nv12_colour=colour)


EVERYTHING = (
    artifact("uint8.onnx", io=UINT8),
    artifact("nv12.onnx", io=NV12),
    artifact("float.onnx"),
    artifact("fp16.onnx", FP16, FP16),
    artifact("int8-u8.onnx", INT8, FP32, U8),
    artifact("int8-s8-fp16.onnx", INT8, FP16, S8),
    artifact("int8-s8.onnx", INT8, FP32, S8),
    artifact("weights.safetensors", kind=ArtifactKind.WEIGHTS),
)


@pytest.mark.parametrize(
    ("name", "precision", "float_precision", "io", "chosen"),
    [
        ("openvino", FP32, FP32, None, "float.onnx"),
        ("openvino", BF16, FP32, None, "float.onnx"),
        ("openvino", FP32, FP32, UINT8, "uint8.onnx"),
        ("openvino", FP32, FP32, NV12, "nv12.onnx"),
        ("openvino", FP16, FP32, None, "fp16.onnx"),
        ("openvino", FP16, FP32, UINT8, None),
        ("openvino", INT8, FP32, None, "int8-u8.onnx"),
        ("openvino", INT8, BF16, None, "int8-u8.onnx"),
        ("openvino", INT8, FP16, None, None),
        ("onnxruntime", FP32, FP32, None, "float.onnx"),
        ("onnxruntime", INT8, FP32, None, "int8-s8.onnx"),
        ("onnxruntime", INT8, FP16, None, "int8-s8-fp16.onnx"),
        ("onnxruntime", INT8, BF16, None, None),
        ("torch", FP32, FP32, None, "weights.safetensors"),
        ("torch", BF16, FP32, FLOAT, "weights.safetensors"),
        ("torch", FP32, FP32, UINT8, None),
        ("torch", INT8, FP32, None, None),
    ],
)
def test_choice_of_artifact(
    name: str, precision: Precision, float_precision: Precision, io: FrameFormat | None, chosen: str | None
) -> None:
    if not availability(name).works:
        pytest.skip(f"{name} is not installed")
    chosen_artifact = load_runtime(name).choose_artifact(EVERYTHING, precision, float_precision, io)
    assert (chosen_artifact.file if chosen_artifact else None) == chosen


def test_onnxruntime_takes_uint8_activations_where_there_are_no_int8_ones() -> None:
    if not availability("onnxruntime").works:
        pytest.skip("onnxruntime is not installed")
    chosen_artifact = load_runtime("onnxruntime").choose_artifact(EVERYTHING[:5], INT8, FP32, None)
    assert chosen_artifact is not None
    assert chosen_artifact.file == "int8-u8.onnx"


@pytest.fixture(params=["toy.sredge", "toy.sredge.zip"])
def bundle(request: pytest.FixtureRequest, toys: Any, tmp_path: Path) -> Path:
    out = tmp_path / str(request.param)
    with staging_folder(out) as staging:
        files = [("model.onnx", toys.plain(), FP32, None), ("model.int8.onnx", toys.plain(U8), INT8, U8)]
        artifacts = []
        for file, source, precision, activation_type in files:
            (staging / file).write_bytes(source.read_bytes())
            artifacts.append(artifact(file, precision, FP32, activation_type, sha256=sha256_of(source)))
        manifest = Manifest(ModelCard("toy", 2, 1), TileSpec(16, 24), tuple(artifacts), created="2026-01-01")
        write_bundle(out, manifest, staging)
    return out


def test_open_session_by_path(bundle: Path, onnx_runtime: str, toys: Any, batches: list[Array]) -> None:
    with open_session(bundle, onnx_runtime, threads=1) as session:
        np.testing.assert_allclose(session.run(batches[0]), toys.reference(batches[0]), atol=2e-6)
        assert session.spec.threads == 1


def test_open_session_on_an_opened_bundle(bundle: Path, onnx_runtime: str) -> None:
    with open_bundle(bundle) as opened:
        for precision in (FP32, INT8):
            with open_session(opened, onnx_runtime, precision, allow_other_precision=True) as session:
                assert session.spec.requested is precision


def test_request_from_bundle_is_what_a_session_opens(bundle: Path) -> None:
    if not availability("openvino").works:
        pytest.skip("openvino is not installed")
    with open_bundle(bundle) as opened:
        request = request_from_bundle(opened, "openvino", INT8, float_precision=BF16, threads=1, slots=3)
        assert request.artifact.name == "model.int8.onnx"
        assert (request.precision, request.float_precision, request.activation_type) == (INT8, BF16, U8)
        assert (request.threads, request.slots, request.tile) == (1, 3, TileSpec(16, 24))


def test_bundle_without_the_artifact_names_the_precisions_that_it_has(bundle: Path, runtime: str) -> None:
    choose = load_runtime(runtime).choose_artifact
    for precision, io in ((FP16, None), (FP32, UINT8)):
        with open_bundle(bundle) as opened, raises(PrecisionUnavailable) as caught:
            open_session(opened, runtime, precision, io=io)
        if runtime == "torch":
            assert caught.value.found == runtime
            continue
        assert caught.value.found == (precision, FP32, io)
        assert isinstance(caught.value.wanted, tuple)
        for label in caught.value.wanted:
            wanted, _, float_precision = label.partition("+")
            pair = Precision(wanted), Precision(float_precision or FP32)
            assert choose(opened.manifest.artifacts, *pair, io) is not None
        assert ("fp32" in caught.value.wanted) == ("int8" in caught.value.wanted) == (io is None)


@pytest.mark.parametrize("call", [load_runtime, availability, lambda name: open_session("x", name)])
def test_unknown_runtime(call: Any) -> None:
    with raises(UnknownNameError, found="tensorflow", wanted=[entry.name for entry in RUNTIMES]):
        call("tensorflow")


@pytest.fixture(params=RUNTIMES, ids=[entry.name for entry in RUNTIMES])
def hidden_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry entry whose library cannot be imported."""
    entry = request.param
    monkeypatch.delitem(sys.modules, entry.module, raising=False)
    monkeypatch.setitem(sys.modules, entry.library, None)
    return entry


def test_absent_library(hidden_library: Any, toys: Any) -> None:
    name = hidden_library.name
    reported = availability(name)
    assert not reported.works
    assert reported.how_to_install == how_to_install(hidden_library.extra)
    assert not supports(name, FP32)
    with raises(RuntimeUnavailable, found=None, wanted=hidden_library.library) as caught:
        open_request(name, toys.request(toys.plain()))
    assert hidden_library.how_to_install in str(caught.value.remedy)


def test_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "libgomp.so.1: cannot open shared object file"

    def fail(name: str) -> None:
        raise ImportError(reason)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert reason in availability("openvino").reason
    with raises(RuntimeUnavailable, found=reason, wanted="openvino"):
        load_runtime("openvino")


def test_a_bug_of_ours_is_not_an_absent_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise AttributeError("typo")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(AttributeError):
        availability("openvino")


@pytest.mark.parametrize("count", ["threads", "slots"])
def test_counts_start_at_one(toys: Any, count: str) -> None:
    with raises(UsageError, found=0, wanted="1 or more"):
        toys.request(toys.plain(), **{count: 0})


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_registry_imports_no_library() -> None:
    libraries = [entry.library for entry in RUNTIMES]
    done = run_python(f"import sys, sr_edge.runtimes; print([m for m in {libraries} if m in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


OFFLINE = """
import os, socket
def refuse(*arguments, **keywords):
    os.write(2, b"network ")
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
from sr_edge.bundle.plain import from_plain
from sr_edge.runtimes import SessionRequest, open_request, random_tile
import json
request = from_plain(SessionRequest, json.loads({order!r}), "request")
with open_request({runtime!r}, request) as session:
    session.result(session.submit(random_tile(request.tile, request.io)))
"""


def test_starts_silent_and_offline(runtime: str, toys: Any) -> None:
    request = toys.request_for(runtime)
    code = f"import sys; sys.path.insert(0, {str(toys.folder)!r})" + OFFLINE.format(
        order=json.dumps(to_plain(request)), runtime=runtime
    )
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

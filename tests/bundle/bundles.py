"""Small bundles for tests, and changes to their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from sr_edge.bundle import (
    Artifact,
    ArtifactKind,
    CalibrationRecord,
    GoldenFrame,
    Manifest,
    sha256_of,
    staging_folder,
    write_bundle,
)
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, Precision, TileSpec

CARD = ModelCard("convnet-tiny", scale=2, parameters=10, forms={"body.0": "direct"})


def onnx_file(name: str, *tensors: onnx.TensorProto) -> bytes:
    """An ONNX model without nodes, with these constants."""
    graph = helper.make_graph([], name, [], [], list(tensors))
    return helper.make_model(graph).SerializeToString()


def fill(staging: Path) -> Manifest:
    """Puts five small files into `staging` and returns the manifest that describes them."""
    (staging / "golden").mkdir()
    for name in ("model.onnx", "model.int8.onnx"):
        (staging / name).write_bytes(onnx_file(name))
    for name in ("cal.json", "golden/in.png", "golden/out.png"):
        (staging / name).write_bytes(name.encode() * 50)
    shape = (1, 3, 16, 24)
    plain = Artifact(
        "model.onnx",
        ArtifactKind.ONNX,
        Precision.FP32,
        Precision.FP32,
        None,
        FrameFormat.FLOAT_NCHW,
        shape,
        sha256_of(staging / "model.onnx"),
    )
    golden = GoldenFrame(
        "golden/in.png",
        "golden/out.png",
        Precision.FP32,
        60.0,
        sha256_of(staging / "golden/in.png"),
        sha256_of(staging / "golden/out.png"),
    )
    quantized = replace(
        plain,
        file="model.int8.onnx",
        precision=Precision.INT8,
        activation_type=ActivationType.INT8,
        sha256=sha256_of(staging / "model.int8.onnx"),
    )
    return Manifest(
        card=CARD,
        tile=TileSpec(16, 24),
        artifacts=(plain, quantized),
        golden=(golden,),
        calibration=CalibrationRecord(
            "percentile", 40, "ab", {"head": "keeps the picture"}, "cal.json", sha256_of(staging / "cal.json")
        ),
        tools={"onnx": "1.16"},
    )


def write(out: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> Path:
    with staging_folder(out) as staging:
        return write_bundle(out, change(fill(staging)), staging)


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))

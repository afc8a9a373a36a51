"""What INT8 gains from 1x1 convolutions in place of matrix products: the same network with and without passes.

python -m speed_matrix.int8 NAME SIDE --seconds S   (in the folder benchmarks; NAME is "bsrn_like" by default)

Both fp32 graphs are calibrated with the two bundled images and the same settings, and all layers that can be become
INT8. The four graphs then run in turn in OpenVINO. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from speed_matrix.subjects import subjects
from speed_matrix.times import compare, ratio_of_times
from sr_edge.calibration import (
    CalibrationConfig,
    calibrate_within,
    calibration_patches,
    held_out_patches,
    quantize_onnx,
)
from sr_edge.export import export_best_form
from sr_edge.export.graph.patches import PICTURES
from sr_edge.export.passes.speed_passes import passes_for_all_targets
from sr_edge.model_sources import NetworkChoice, load_network
from sr_edge.spec import ActivationType, PassChoice, Precision, TileSpec

CHOICES = (PassChoice.NONE, PassChoice.ALL)
RUNTIME = "openvino"


def measure(name: str, side_px: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The ratios of the four graphs to fp32 without passes, and the layers and loss of each INT8 graph."""
    tile = TileSpec(side_px, side_px)
    factory = next(subject.factory for subject in subjects() if subject.name == name)
    model = load_network(NetworkChoice(None, arch=factory), tile)
    result: dict[str, Any] = {"name": name, "side_px": side_px, "graphs": {}}
    times: dict[str, Sequence[float]] = {}
    files = []
    for choice in CHOICES:
        file = folder / f"{choice}.onnx"
        export_best_form(model, tile, file, passes=passes_for_all_targets(choice))
        quantized, facts = _quantized(file, tile)
        files += [(f"fp32, passes {choice}", file), (f"int8, passes {choice}", quantized)]
        result["graphs"][f"fp32, passes {choice}"] = {"convolutions": _count(file, "Conv"), "products": _products(file)}
        result["graphs"][f"int8, passes {choice}"] = facts
    precisions = [Precision.INT8 if label.startswith("int8") else Precision.FP32 for label, _ in files]
    measured = compare([path for _, path in files], RUNTIME, precisions, seconds)
    times = dict(zip((label for label, _ in files), measured, strict=True))
    base = times[files[0][0]]
    for label, taken in times.items():
        result["graphs"][label] |= ratio_of_times(taken, base)
    return result


def _quantized(file: Path, tile: TileSpec) -> tuple[Path, dict[str, Any]]:
    patches, held_out = calibration_patches(PICTURES, tile), held_out_patches(PICTURES, tile)
    report = calibrate_within(file, patches, held_out, CalibrationConfig(method="min-max"))
    quantized = file.with_suffix(".int8.onnx")
    quantize_onnx(file, report.calibration, quantized, ActivationType.UINT8)
    layers = sum(decision.int8 for decision in report.calibration.decisions)
    return quantized, {"layers": layers, "of": len(report.calibration.decisions)}


def _count(file: Path, *operators: str) -> int:
    return sum(node.op_type in operators for node in onnx.load(file).graph.node)


def _products(file: Path) -> int:
    return _count(file, "MatMul", "Gemm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="bsrn_like")
    parser.add_argument("side_px", nargs="?", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.name, arguments.side_px, arguments.seconds, Path(folder)), indent=1))


if __name__ == "__main__":
    main()

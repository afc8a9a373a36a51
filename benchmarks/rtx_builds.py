"""What TensorRT-RTX makes of every architecture, for a GPU that is not here: it compiles, nothing is run.

The smallest size of each architecture, x2, static form, random weights (nothing here depends on them), in fp32, fp16
and INT8 with an fp16 rest, for compute capability 8.6: the nearest to Jetson Orin's 8.7 that TensorRT-RTX has. It
compiles a network as one part, so that reformats inside are not visible; the graph's own transposes are counted.
A graph that is refused has its reason in the table, and the exit code is 1.

    python benchmarks/rtx_builds.py
    python benchmarks/rtx_builds.py --models convnet-tiny taylor-swinir-light --tile 48x48
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.errors import SrEdgeError
from sr_edge.export import to_fp16, to_static
from sr_edge.export.export import save_model
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.models import ARCHITECTURES, load_model
from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary, load_library
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec

SCALE = 2
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
MODELS = tuple(f"{architecture.name}-{architecture.sizes[-1]}" for architecture in ARCHITECTURES)


@dataclass(frozen=True)
class RtxBuild:
    """One graph and its engine; where `refused` says why there is none, the engine's figures are 0.

    `nodes` and `transposes` are the graph's, `layers` those of TensorRT's network, `quantized` those of its
    convolutions and matmuls that are INT8, `engine_layers` and `reformats` what the engine lists.
    """

    model: str
    precision: str
    nodes: int
    transposes: int
    layers: int = 0
    quantized: int = 0
    engine_layers: int = 0
    reformats: int = 0
    engine_bytes: int = 0
    activation_bytes: int = 0
    build_s: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class RtxReport:
    library: str
    compute_capability: str
    tile: str
    rows: tuple[RtxBuild, ...]


def write_graphs(model: str, tile: TileSpec, folder: Path) -> dict[Precision, Path]:
    """The static form as files, by precision; INT8 has an fp16 rest, as TensorRT runs it best."""
    files = {precision: folder / f"{model}.{precision}.onnx" for precision in PRECISIONS}
    loaded = load_model(model, SCALE, random_weights=True)
    floats = simplify(trace(to_static(loaded.module, tile.height, tile.width), tile)).model
    metadata = GraphMetadata(loaded.card, Form.STATIC, Precision.FP32, FrameFormat.FLOAT_NCHW, tile, "", "")
    write_metadata(floats, metadata)
    save_model(floats, files[Precision.FP32])
    save_model(to_fp16(floats).model, files[Precision.FP16])
    calibration = calibrate(files[Precision.FP32], worst_case_patches(tile))
    quantize_onnx(files[Precision.FP32], calibration, files[Precision.INT8], ActivationType.INT8, Precision.FP16)
    return files


def build(library: TensorRTLibrary, model: str, precision: Precision, graph: Path, compute_capability: str) -> RtxBuild:
    nodes = onnx.load(graph).graph.node
    row = RtxBuild(model, precision.value, len(nodes), sum(node.op_type == "Transpose" for node in nodes))
    float_precision = Precision.FP16 if precision is Precision.INT8 else precision
    try:
        engine = build_engine(
            library, graph, BuildOptions(precision, float_precision, compute_capability=compute_capability)
        )
    except SrEdgeError as error:
        return replace(row, refused=str(error))
    return replace(
        row,
        layers=engine.types.layers,
        quantized=len(engine.types.quantized),
        engine_layers=len(engine.layers),
        reformats=engine.reformats,
        engine_bytes=len(engine.plan),
        activation_bytes=engine.activation_bytes,
        build_s=engine.build_s,
    )


def build_all(
    library: TensorRTLibrary, models: Sequence[str], tile: TileSpec, compute_capability: str
) -> Iterator[RtxBuild]:
    multiples = {architecture.name: architecture.multiple_px for architecture in ARCHITECTURES}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            tile.require_multiple_of(multiples[model.rpartition("-")[0]])
            for precision, graph in write_graphs(model, tile, Path(folder)).items():
                yield build(library, model, precision, graph, compute_capability)


def table(report: RtxReport) -> Table:
    """For the terminal."""
    grid = Table("model", "precision", "nodes", "transposes", "layers", "INT8", "engine MB", "build s")
    for row in report.rows:
        if row.refused:
            grid.add_row(row.model, row.precision, str(row.nodes), str(row.transposes), f"refused: {row.refused}")
            continue
        counts = map(str, (row.nodes, row.transposes, row.layers, row.quantized))
        grid.add_row(row.model, row.precision, *counts, f"{row.engine_bytes / 1e6:.2f}", f"{row.build_s:.1f}")
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        default=MODELS,
        metavar="NAME",
        help="models to build; by default the smallest of each architecture",
    )
    parser.add_argument("--tile", type=TileSpec.parse, default=TileSpec(96, 96))
    parser.add_argument("--compute-capability", default="8.6")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    library = load_library(Flavour.RTX)
    rows = tuple(build_all(library, args.models, args.tile, args.compute_capability))
    report = RtxReport(library.name, args.compute_capability, str(args.tile), rows)
    Console().print(table(report))
    if args.json:
        args.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if any(row.refused for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

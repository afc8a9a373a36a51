"""INT8 for the attention's own matmuls: what it costs in decibels and gives in time, against leaving them float.

The products of two computed tensors (queries by keys, weights by values; in TaylorShift's static form the sums over
keys and what reads them) get Q/DQ on both sides, the clip where rounding and clipping err least on calibration patches.
Once with all other layers in float, once with those in INT8 that calibration chooses. All graphs of a network take
turns in one process, the median of one ratio for each round. OpenVINO, the rest in bf16 where the CPU has it.

    python benchmarks/attention_int8.py --hr SET5 SET14      left out: those of the folder that SR_EDGE_DATA names
    python benchmarks/attention_int8.py --hr SET5 --only ups-tiny --rounds 3 --patches 4      a quick try
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from attention_int8_rows import NetworkRows, Row, section
from onnx import helper, numpy_helper
from picture_quality import CALIBRATION, TILE, Quality, TestPicture, opened, quality, test_pictures
from picture_sets import set_name, test_sets

from sr_edge.bench import write_text
from sr_edge.calibration import (
    Budget,
    CalibrationConfig,
    calibrate_within,
    calibration_patches,
    held_out_patches,
    observer_named,
    quantize_onnx,
)
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.errors import FrameError
from sr_edge.export import export_onnx
from sr_edge.export.graph.view import view_graph
from sr_edge.frames import Batch, Frame
from sr_edge.models import LoadedModel, load_model
from sr_edge.runtimes import Session, measure_interleaved, paired_ratio, supports
from sr_edge.runtimes.openvino.runtime import precision_hint, shared_core
from sr_edge.spec import ActivationType, Precision
from sr_edge.upscaler import Upscaler

NETWORKS = ("taylor-swinir-tiny", "ups-tiny")
LARGEST_DROP_DB = 0.05
OBSERVER = "mse"
ALL, NONE = "all", "none"


@dataclass(frozen=True)
class Clips:
    """Where a tensor saturates, and whether it is never negative."""

    clip: float
    is_positive: bool


@dataclass(frozen=True)
class Variant:
    """A graph to time: its layers, and the role of the products that are INT8 in it."""

    layers: str
    products: str
    path: Path


def products_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """MatMuls of two computed tensors, by the role that they play: their names without the numbers of blocks."""
    view = view_graph(model)
    found: dict[str, list[str]] = {}
    for node in view.nodes:
        if node.op_type == "MatMul" and not any(name in view.constants for name in node.input):
            role = re.sub(r"^.*\.\d+/", "", node.name)
            found.setdefault(role, []).append(node.name)
    return found


def clips_of(model: onnx.ModelProto, nodes: Sequence[str], patches: Sequence[Batch]) -> dict[str, Clips]:
    """How each tensor that these nodes read becomes INT8."""
    read = {name for node in model.graph.node if node.name in nodes for name in node.input}
    tensors = sorted(read)
    observers = {name: observer_named(OBSERVER)() for name in tensors}
    positive = dict.fromkeys(tensors, True)
    graph = InstrumentedGraph(model, tensors)
    for patch in patches:
        for name, values in zip(tensors, graph.run(patch), strict=True):
            observers[name].observe(values)
            positive[name] &= bool(values.min() >= 0.0)
    return {name: Clips(observers[name].clip(), positive[name]) for name in tensors}


def with_int8_products(model: onnx.ModelProto, nodes: Sequence[str], clips: dict[str, Clips]) -> onnx.ModelProto:
    """A copy with Q/DQ before both inputs of the named MatMuls.

    Signed with zero point 0, as OpenVINO's INT8 matmul wants both; the left unsigned where it is never negative.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    written: list[onnx.NodeProto] = []
    for node in quantized.graph.node:
        if node.name in nodes:
            for slot, name in enumerate(node.input):
                found = clips[name]
                unsigned = slot == 0 and found.is_positive
                written += _pair(quantized, f"{node.name}/product{slot}", name, found.clip, unsigned)
                node.input[slot] = f"{node.name}/product{slot}"
        written.append(node)
    del quantized.graph.node[:]
    quantized.graph.node.extend(written)
    return quantized


def _pair(model: onnx.ModelProto, output: str, source: str, clip: float, unsigned: bool) -> list[onnx.NodeProto]:
    levels, zero_point = (255, np.uint8(0)) if unsigned else (127, np.int8(0))
    constants = {f"{output}_scale": np.float32(clip / levels), f"{output}_zero_point": zero_point}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    quantize = helper.make_node("QuantizeLinear", [source, *constants], [f"{output}_levels"], name=f"{output}_Q")
    dequantize = helper.make_node("DequantizeLinear", [f"{output}_levels", *constants], [output], name=f"{output}_DQ")
    return [quantize, dequantize]


def int8_products(path: Path, float_precision: Precision) -> int:
    """How many products OpenVINO computes in INT8; none of those that it fuses into one kernel of attention."""
    settings = {"INFERENCE_PRECISION_HINT": precision_hint(float_precision), "PERFORMANCE_HINT": "LATENCY"}
    compiled = shared_core().compile_model(path, "CPU", settings)
    properties = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    products = [
        each for each in properties if "layerType" in each and each["layerType"].astype(str).lower() == "matmul"
    ]
    return sum(each["runtimePrecision"].astype(str).lower() in ("i8", "u8") for each in products)


def variants(model: LoadedModel, float_precision: Precision, patches: int, folder: Path) -> Iterator[Variant]:
    """The files: layers in float and in INT8, the products of no, of each and of all roles in INT8."""
    source = folder / "model.onnx"
    export_onnx(model, TILE, source)
    graph, batches = load_graph(source), calibration_patches(CALIBRATION, TILE, patches)
    config = CalibrationConfig(Budget(LARGEST_DROP_DB), runtime="openvino", float_precision=float_precision)
    calibration_report = calibrate_within(source, batches, held_out_patches(CALIBRATION, TILE), config)
    quantize_onnx(source, calibration_report.calibration, folder / "int8.onnx", ActivationType.UINT8)
    roles = products_of(graph)
    everything = [name for nodes in roles.values() for name in nodes]
    clips = clips_of(graph, everything, batches)
    chosen = {NONE: [], **(roles if len(roles) > 1 else {}), ALL: everything}
    for layers, path in ((str(float_precision), source), ("int8", folder / "int8.onnx")):
        for index, (role, nodes) in enumerate(chosen.items()):
            written = folder / f"{layers}-{index}.onnx"
            onnx.save(with_int8_products(onnx.load(path), nodes, clips), written)
            yield Variant(layers, role, written)


def measured(name: str, args: argparse.Namespace, folder: Path) -> NetworkRows:
    """Everything of one network at x2."""
    model, float_precision = load_model(name, 2), _float_precision()
    made = list(variants(model, float_precision, args.patches, folder))
    products = sum(map(len, products_of(load_graph(folder / "model.onnx")).values()))
    pictures = {set_name(path): list(test_pictures(path, 2)) for path in test_sets(args.hr)}
    with ExitStack() as stack:
        exact = stack.enter_context(opened(model, folder / "model.onnx", Precision.FP32, Precision.FP32))
        wanted = {key: [Upscaler(exact).upscale(picture.lr) for picture in found] for key, found in pictures.items()}
        sessions = [
            stack.enter_context(opened(model, each.path, _asked(each, float_precision), float_precision))
            for each in made
        ]
        turns = measure_interleaved(sessions, args.rounds)
        bases = {each.layers: times for each, times in zip(made, turns, strict=True) if each.products == NONE}
        rows = tuple(
            Row(
                each.layers,
                each.products,
                f"{int8_products(each.path, float_precision)} of {products}",
                {key: _quality(session, pictures[key], wanted[key]) for key in pictures},
                None if each.products == NONE else paired_ratio(times, bases[each.layers]),
            )
            for each, session, times in zip(made, sessions, turns, strict=True)
        )
    return NetworkRows(f"{name}-x2", str(float_precision), rows, LARGEST_DROP_DB)


def _quality(session: Session, pictures: Sequence[TestPicture], wanted: Sequence[Frame]) -> Quality | None:
    try:
        return quality(session, pictures, wanted)
    except FrameError as error:
        if "NaN" not in str(error):
            raise
        return None


def _float_precision() -> Precision:
    return Precision.BF16 if supports("openvino", Precision.BF16) else Precision.FP32


def _asked(variant: Variant, float_precision: Precision) -> Precision:
    return float_precision if variant.layers == str(float_precision) else Precision.INT8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hr", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders of high-resolution test images"
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--patches", type=int, default=40, help="number of patches to calibrate on")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            report.append(asdict(measured(name, args, Path(folder))))
        print(next(section(report[-1:])), flush=True)
    if args.json is not None:
        write_text(args.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

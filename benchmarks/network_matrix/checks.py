"""What a bundle says beyond its deployment: TensorRT's rules, float64 parity, islands, TensorRT-RTX, times.

python benchmarks/network_matrix/checks.py BUNDLE [--rtx] [--times] -- MODEL [--arch A] [--weights W] [--scale N]

prints one JSON document. What follows `--` names the network as it was named to `sr-edge deploy`.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from sr_edge.bundle import Bundle, open_bundle
from sr_edge.calibration import read_cache
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.deploy.graphs import CACHE_FILE
from sr_edge.errors import SrEdgeError
from sr_edge.export.checks.findings import Severity
from sr_edge.export.checks.parity import PARITY_BOUND, difference
from sr_edge.export.checks.references.float64 import run_float64
from sr_edge.export.checks.references.tie_order import StableOrder
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.checks.tensorrt_releases import TENSORRT_RELEASES
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.patches import PatchKind, check_patches
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.tracing import INPUT_NAME, trace
from sr_edge.frames import Batch
from sr_edge.model_sources import NetworkChoice, load_network
from sr_edge.models import LoadedModel
from sr_edge.spec import Precision, TileSpec

Document = dict[str, Any]

GRAPHS = {
    Precision.FP32: ("model.onnx",),
    Precision.FP16: ("model.fp16.onnx",),
    Precision.INT8: ("model.int8-fp16.onnx", "model.int8.onnx"),
}
"""The file of each precision that TensorRT would build; the first that exists."""

COMPUTE_CAPABILITY = "8.6"
"""The nearest to Jetson Orin's 8.7 that TensorRT-RTX builds for."""

WARM_UP_RUNS, MIN_ROUNDS, MAX_ROUNDS, TIME_LIMIT_S = 2, 5, 20, 2.0


def graphs_of(bundle: Path) -> dict[Precision, Path]:
    """The files that exist in a bundle's folder, by precision."""
    files = {precision: [bundle / name for name in names] for precision, names in GRAPHS.items()}
    existing = {precision: [path for path in paths if path.exists()] for precision, paths in files.items()}
    return {precision: paths[0] for precision, paths in existing.items() if paths}


def tensorrt_verdicts(graphs: Mapping[Precision, Path]) -> Document:
    """For each release, the first problem of each graph that it refuses, with its remedy."""
    verdicts: Document = {}
    for release in TENSORRT_RELEASES:
        verdicts[str(release)] = []
        for precision, path in graphs.items():
            findings = check_graph(path, [release.name], static=False, intended=[release.name])
            errors = [finding for finding in findings if finding.severity is Severity.ERROR]
            if errors:
                problem = f"{precision}: {errors[0].op}: {errors[0].why} ({len(errors)} nodes)"
                verdicts[str(release)].append({"problem": problem, "remedy": errors[0].remedy})
    return verdicts


def float64_parity(model: LoadedModel, graph: Path, tile: TileSpec) -> Document:
    """The largest difference on photographs between the fp32 graph in ONNX Runtime and float64 PyTorch."""
    if isinstance(model.module, FileNetwork):
        return {"failed": "an ONNX file is compared with itself in float32"}
    session = open_onnxruntime(graph)
    result = session.get_outputs()[0].name
    patches = check_patches(tile, channels=model.card.input_channels)
    found = []
    for patch in (patch for patch in patches if patch.kind is PatchKind.PHOTOGRAPH):
        with StableOrder():
            exact = run_float64(model.module, patch.batch, _defaults(model))
        actual = run_session(session, _feed(model, patch.batch))[result]
        found.append(difference(actual, exact))
    return {
        "max_abs_error": max(item.max_abs_error for item in found),
        "bound": PARITY_BOUND,
        "photographs": len(found),
    }


def _defaults(model: LoadedModel) -> dict[str, float]:
    return {control.name: control.default for control in model.card.controls}


def _feed(model: LoadedModel, batch: Batch) -> dict[str, Any]:
    return feed_of(INPUT_NAME, batch, _defaults(model))


def fp16_nodes(graph: Path) -> Document:
    """How many nodes of an fp16 file compute in fp32, its islands; casts are not counted."""
    view = view_graph(onnx.load(graph))
    kinds = Counter(view.types[node.output[0]] for node in view.nodes if node.op_type != "Cast")
    fp32, fp16 = kinds[onnx.TensorProto.FLOAT], kinds[onnx.TensorProto.FLOAT16]
    return {"fp32_nodes": fp32, "nodes": fp32 + fp16}


def int8_layers(folder: Path) -> Document:
    """How many of the quantizable convolutions and matrix products of a bundle are INT8."""
    decisions = read_cache(folder / CACHE_FILE).decisions
    operators = find_quantizable_ops(onnx.load(folder / GRAPHS[Precision.FP32][0]))
    return {"layers": sum(decision.int8 for decision in decisions), "of": sum(not op.obstacle for op in operators)}


def rtx_builds(graphs: Mapping[Precision, Path]) -> Document:
    """What TensorRT-RTX makes of each graph: seconds, or the reason why it refuses."""
    from sr_edge.runtimes.tensorrt.api import Flavour, load_library
    from sr_edge.runtimes.tensorrt.builder import build_engine
    from sr_edge.runtimes.tensorrt.options import BuildOptions

    library = load_library(Flavour.RTX)
    builds: Document = {"library": library.name}
    for precision, path in graphs.items():
        rest = Precision.FP32 if precision is Precision.FP32 or path.name == "model.int8.onnx" else Precision.FP16
        options = BuildOptions(precision, rest, compute_capability=COMPUTE_CAPABILITY)
        started = time.monotonic()
        try:
            build_engine(library, path, options)
        except SrEdgeError as error:
            builds[str(precision)] = {"refused": error.problem, "remedy": error.remedy or ""}
        else:
            builds[str(precision)] = {"build_s": time.monotonic() - started}
    return builds


def time_ratios(model: LoadedModel, graph: Path, tile: TileSpec) -> Document:
    """The time of the bundle's fp32 graph over that of the plain traced graph, interleaved, one thread, by runtime."""
    channels, network = model.card.input_channels, model.module
    feed = _feed(model, check_patches(tile, channels=channels)[0].batch)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        from_file = network.file.graph(tile) if isinstance(network, FileNetwork) else None
        onnx.save(from_file or trace(network, tile, channels=channels), plain)
        return {
            "ONNX Runtime": _ratio(_onnxruntime(graph, feed), _onnxruntime(plain, feed)),
            "OpenVINO": _ratio(_openvino(graph, feed), _openvino(plain, feed)),
        }


def _ratio(ours: Callable[[], object], plain: Callable[[], object]) -> Document:
    for _ in range(WARM_UP_RUNS):
        ours()
        plain()
    ratios: list[float] = []
    started = time.monotonic()
    while len(ratios) < MIN_ROUNDS or (len(ratios) < MAX_ROUNDS and time.monotonic() - started < TIME_LIMIT_S):
        first, second = _seconds(ours), _seconds(plain)
        ratios.append(first / second)
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"ratio": median, "low": low, "high": high, "rounds": len(ratios)}


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _onnxruntime(path: Path, feed: Mapping[str, Any]) -> Callable[[], object]:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(feed))


def _openvino(path: Path, feed: Mapping[str, Any]) -> Callable[[], object]:
    import openvino  # type: ignore[import-untyped]

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer(dict(feed))


def checked(bundle: Bundle, folder: Path, model: Callable[[], LoadedModel], rtx: bool, times: bool) -> Document:
    """All checks of a bundle; one that fails has its reason under "failed" and the others go on."""
    graphs, tile = graphs_of(folder), bundle.manifest.tile
    fp32 = graphs[Precision.FP32]
    steps: dict[str, Callable[[], Document]] = {
        "tensorrt": lambda: tensorrt_verdicts(graphs),
        "float64": lambda: float64_parity(model(), fp32, tile),
    }
    if Precision.FP16 in graphs:
        steps["fp16"] = lambda: fp16_nodes(graphs[Precision.FP16])
    if Precision.INT8 in graphs:
        steps["int8"] = lambda: int8_layers(folder)
    if rtx:
        steps["rtx"] = lambda: rtx_builds(graphs)
    if times:
        steps["times"] = lambda: time_ratios(model(), fp32, tile)
    results: Document = {}
    for name, step in steps.items():
        try:
            results[name] = step()
        except Exception as error:  # of any library: the row says why this cell has no figure
            problem = error.problem if isinstance(error, SrEdgeError) else f"{type(error).__name__}: {error}"
            results[name] = {"failed": " ".join(problem.split())[:500]}
    return results


def _parse_network(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="checks.py BUNDLE --")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--arch")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--scale", type=int)
    return parser.parse_args(words)


def main() -> None:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rtx", action="store_true", help="build engines with TensorRT-RTX, which needs no GPU")
    parser.add_argument("--times", action="store_true", help="time the fp32 graph against the plain traced graph")
    arguments = parser.parse_args(words[:at])
    named = _parse_network(words[at + 1 :])
    torch.set_num_threads(1)
    with open_bundle(arguments.bundle) as bundle:
        tile = bundle.manifest.tile

        @functools.cache
        def model() -> LoadedModel:
            choice = NetworkChoice(model=named.model, scale=named.scale, weights=named.weights, arch=named.arch)
            return load_network(choice, tile)

        results = checked(bundle, arguments.bundle, model, arguments.rtx, arguments.times)
    print(json.dumps(results, default=float))


if __name__ == "__main__":
    main()

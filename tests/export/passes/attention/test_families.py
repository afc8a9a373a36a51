"""Attention in spandrel's networks, as torch's exporter writes them: fused by OpenVINO, and in TensorRT's pattern."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.errors import EngineError, ExportError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.constant_parts import WithConstantParts
from sr_edge.export.passes.rewrites.pipeline import rewrite
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.speed_passes import apply_passes, passes_for_all_targets
from sr_edge.export.passes.tracing import trace
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import PassChoice, Precision, TileSpec
from tests.runtimes.here import require_compiler

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"
TILE = TileSpec(64, 64)
IN_EVERY_TEST_RUN = ("swinir",)
FAMILIES = [
    *(pytest.param(name) for name in IN_EVERY_TEST_RUN),
    *(
        pytest.param(name, marks=pytest.mark.services)
        for name in ("swin2sr", "hat", "dat", "drct", "rgt", "craft", "scunet", "omnisr", "atd")
    ),
]
NOT_FUSED = {"atd": 6}
"""Softmax nodes that stay layers of their own in OpenVINO."""


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@cache
def graphs(name: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph of a small network of a family as it is exported without passes, and after those for all targets."""
    recipes = importlib.import_module("network_recipes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says of the networks' code
        try:
            network = recipes.build(name)
        except ImportError:
            pytest.skip("spandrel is not installed")
        try:
            traced = trace(network, TILE)
        except ExportError:
            traced = trace(WithConstantParts(network), TILE)
    plain = rewrite(simplify(traced).model)[-1].model
    return plain, apply_passes(plain, passes_for_all_targets(PassChoice.STRUCTURE))[0]


def count(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


def openvino_layers(model: onnx.ModelProto, file: Path) -> Counter[str]:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    onnx.save(model, file)
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    operators = compiled.get_runtime_model().get_ordered_ops()
    return Counter(operator.get_rt_info()["layerType"].astype(str) for operator in operators)


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_fuses_the_attention(name: str, tmp_path: Path) -> None:
    plain, fast = graphs(name)
    before, after = (openvino_layers(model, tmp_path / "network.onnx")["Softmax"] for model in (plain, fast))
    assert count(fast, "Softmax") == count(plain, "Softmax") > 0
    assert after == NOT_FUSED.get(name, 0) <= before


@pytest.mark.parametrize("name", FAMILIES)
def test_the_outputs_stay(name: str) -> None:
    picture = np.random.default_rng(0).random((1, 3, TILE.height, TILE.width), np.float32)
    before, after = (next(iter(run_onnxruntime(model, {"input": picture}).values())) for model in graphs(name))
    np.testing.assert_allclose(after, before, rtol=0.0, atol=1e-4 * float(np.abs(before).max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_tensorrt_finds_its_pattern_in_the_parsed_network(name: str, tmp_path: Path) -> None:
    """Two matrix products with nothing but a softmax, and before it sums and products of elements, between them."""
    require_compiler()
    library: Any = pytest.importorskip("tensorrt_rtx")
    onnx.save(graphs(name)[1], tmp_path / "network.onnx")
    log = library.Logger(library.Logger.ERROR)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    assert parser.parse_from_file(str(tmp_path / "network.onnx"))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    softmaxes = [layer for layer in layers if layer.type == library.LayerType.SOFTMAX]
    assert len(softmaxes) == count(graphs(name)[1], "Softmax")
    interrupted = [layer.name for layer in softmaxes if not is_attention(library, layers, layer)]
    assert len(interrupted) == NOT_FUSED.get(name, 0), interrupted


def is_attention(library: Any, layers: list[Any], softmax: Any) -> bool:
    producer = {layer.get_output(at).name: layer for layer in layers for at in range(layer.num_outputs)}
    readers = readers_of(library, layers, softmax)
    source = producer[softmax.get_input(0).name]
    while source.type == library.LayerType.ELEMENTWISE:
        inputs = [producer[source.get_input(at).name] for at in range(source.num_inputs)]
        source = next((one for one in inputs if one.type != library.LayerType.CONSTANT), inputs[0])
    product = library.LayerType.MATRIX_MULTIPLY
    return source.type == product and [reader.type for reader in readers] == [product]


def readers_of(library: Any, layers: list[Any], layer: Any) -> list[Any]:
    """The layers that read the output of a layer, behind the Shuffle without effect that the parser adds."""
    output = layer.get_output(0)
    readers = [one for one in layers if reads(one, output.name)]
    if [one.type for one in readers] == [library.LayerType.SHUFFLE]:
        readers[0].__class__ = library.IShuffleLayer  # the network returns layers of the base class
        keeps_order = tuple(readers[0].first_transpose) == tuple(readers[0].second_transpose)
        if keeps_order and tuple(readers[0].get_output(0).shape) == tuple(output.shape):
            return readers_of(library, layers, readers[0])
    return readers


def reads(layer: Any, tensor: str) -> bool:
    inputs = (layer.get_input(at) for at in range(layer.num_inputs))
    return any(each is not None and each.name == tensor for each in inputs)


@pytest.mark.parametrize("name", FAMILIES)
def test_tensorrt_without_an_attention_layer_takes_the_same_graph(name: str) -> None:
    plain, fast = graphs(name)
    assert count(fast, "Attention") == 0
    refused, before = ({finding.rule for finding in check_graph(model, ["tensorrt-10.3"])} for model in (fast, plain))
    assert refused <= before


@pytest.mark.services
@pytest.mark.parametrize("name", [parameter.values[0] for parameter in FAMILIES])
def test_tensorrt_for_rtx_builds_an_engine_for_compute_capability_8_6(name: str, tmp_path: Path) -> None:
    rtx, precision = require_compiler(), Precision.FP32
    onnx.save(graphs(name)[1], tmp_path / "network.onnx")
    options = BuildOptions(precision, precision, compute_capability="8.6")
    if name == "atd":  # TopK of 4,096 tokens, which inspect --for refuses, too: deploy it with a smaller tile
        with pytest.raises(EngineError) as caught:
            build_engine(rtx, tmp_path / "network.onnx", options)
        assert "3840" in str(caught.value)
        return
    build_engine(rtx, tmp_path / "network.onnx", options)

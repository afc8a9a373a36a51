"""The census of a small graph in every runtime that reports the times of layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.bench import Census, census
from sr_edge.bench.operator_times.kinds import Kind
from sr_edge.errors import (
    EngineError,
    ExportError,
    PrecisionUnavailable,
    RuntimeUnavailable,
    UnknownNameError,
    UsageError,
)
from sr_edge.runtimes import RUNTIMES, availability
from sr_edge.spec import Precision
from tests.expected_errors import raises

ABLE = ("onnxruntime", "openvino")


def model(name: str = "/body/body.{}/{}") -> onnx.ModelProto:
    """A convolution with an activation, and a matrix product on channels-last values."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,32,32] x) => (float[1,8,32,32] y)
      { a = Conv<pads = [1, 1, 1, 1]>(x, weight) b = Relu(a) c = Transpose<perm = [0, 2, 3, 1]>(b)
        d = MatMul(c, matrix) e = Sigmoid(d) y = Transpose<perm = [0, 3, 1, 2]>(e) }"""
    graph = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    for constant, shape in (("weight", (8, 8, 3, 3)), ("matrix", (8, 8))):
        value = generator.standard_normal(shape).astype(np.float32)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(value, constant))
    for index, node in enumerate(graph.graph.node):
        node.name = name.format(index // 2, node.op_type)
    return graph


def measured(graph: onnx.ModelProto | Path, runtime: str) -> Census:
    if not availability(runtime).works:
        pytest.skip(f"{runtime} does not work here")
    return census(graph, runtime, threads=1, runs=3)


def test_every_runtime_that_says_so_is_tested() -> None:
    assert {entry.name for entry in RUNTIMES if entry.layer_times} == set(ABLE)


@pytest.mark.parametrize("runtime", ABLE)
def test_times_by_kind_and_by_operator(runtime: str) -> None:
    found = measured(model(), runtime)
    assert found.runtime == runtime
    assert (found.threads, found.runs, found.float_precision) == (1, 3, Precision.FP32)
    assert [time.kind for time in found.kinds] == list(Kind)
    assert sum(time.share for time in found.kinds) == pytest.approx(1.0)
    assert sum(time.ms for time in found.operators) == pytest.approx(found.total_ms)
    assert found.share_of(Kind.ARITHMETIC) > 0.0
    assert sum(movement.ms for movement in found.movements) == pytest.approx(
        sum(time.ms for time in found.kinds if time.kind is Kind.MOVEMENT)
    )


@pytest.mark.parametrize("runtime", ABLE)
@pytest.mark.parametrize("name", ["/body/body.{}/{}", "odd, name (3), sr-edge/body.{}{}"])
def test_movement_has_the_layers_that_it_comes_from(runtime: str, name: str) -> None:
    found = measured(model(name), runtime)
    sources = {path for movement in found.movements for path in movement.layers}
    assert sources == ({"body.*"} if name.startswith("/") else set())


def test_dynamic_sizes_and_files(tmp_path: Path) -> None:
    graph = model()
    for dimension in graph.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_param = "size"
    del graph.graph.output[0].type.tensor_type.shape.dim[2:]
    onnx.save(graph, tmp_path / "network.onnx")
    assert measured(tmp_path / "network.onnx", "openvino").total_ms > 0.0


@pytest.mark.parametrize("runtime", ABLE)
def test_the_graph_is_not_changed(runtime: str) -> None:
    graph = model()
    before = graph.SerializeToString(deterministic=True)
    measured(graph, runtime)
    assert graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("runtime", sorted({entry.name for entry in RUNTIMES} - set(ABLE)))
def test_runtimes_without_layer_times_are_refused(runtime: str) -> None:
    with raises(RuntimeUnavailable, found=runtime, wanted=ABLE):
        census(model(), runtime)


def test_bad_input(tmp_path: Path) -> None:
    with raises(UnknownNameError, found="tensorflow"):
        census(model(), "tensorflow")
    with raises(UsageError, found=0):
        census(model(), "onnxruntime", runs=0)
    with raises(PrecisionUnavailable, found=Precision.BF16):
        census(model(), "onnxruntime", Precision.BF16)
    with raises(ExportError, found=tmp_path / "no.onnx"):
        census(tmp_path / "no.onnx", "onnxruntime")
    invalid = model()
    invalid.graph.node[0].op_type = "Invalid"
    for runtime in ABLE:
        with raises(EngineError):
            census(invalid, runtime)

"""Small float64 graphs, and the comparison of a rewritten graph with the original one by onnx's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.pass_result import PassResult

Values = Mapping[str, npt.NDArray[Any]]

NOTHING: Values = {}


def one_node(
    operator: str, inputs: Values, constants: Values = NOTHING, opset: int = 17, **attributes: Any
) -> onnx.ModelProto:
    """A graph of one node, named "the node", that computes "y" of its inputs and then its constants."""
    node = onnx.helper.make_node(operator, [*inputs, *constants], ["y"], name="the node", **attributes)
    return model_of([node], inputs, constants, opset)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Values,
    constants: Values = NOTHING,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """A model of these nodes; the outputs get their inferred shapes."""
    declared = [_declared(name, value) for name, value in inputs.items()]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        declared,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.output}
    if any(not value.type.tensor_type.HasField("shape") for value in known.values()):  # no inference for some operators
        known = dict(zip(outputs, map(_declared, outputs, outputs_of(model, inputs)), strict=True))
    for output in model.graph.output:
        output.CopyFrom(known[output.name])
    return model


def _declared(name: str, value: npt.NDArray[Any]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def outputs_of(model: onnx.ModelProto, inputs: Values) -> list[npt.NDArray[Any]]:
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, dict(inputs))]


def require_equal(result: PassResult, original: onnx.ModelProto, inputs: Values, tolerance: float = 0.0) -> None:
    """Checks that a pass changed the graph to a valid one with the same outputs, and finds nothing more to do."""
    assert result.changed
    onnx.checker.check_model(result.model, full_check=True)
    for actual, expected in zip(outputs_of(result.model, inputs), outputs_of(original, inputs), strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance)


def require_equal_in_onnxruntime(result: PassResult, original: onnx.ModelProto, inputs: Values) -> None:
    """The same for operators that onnx's reference computes wrongly; in float32, to its rounding."""
    onnx.checker.check_model(result.model, full_check=True)
    actual = run_onnxruntime(result.model, inputs)["y"]
    np.testing.assert_allclose(actual, run_onnxruntime(original, inputs)["y"], rtol=0.0, atol=1e-5)


def operators_of(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}

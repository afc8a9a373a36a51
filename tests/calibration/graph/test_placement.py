"""The placement policy: every decision has a reason, and statistics never become INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.graph.placement import Decision, PlacementPolicy, decide
from sr_edge.errors import CalibrationError, UsageError
from sr_edge.export.passes.cleanup import name_nodes
from tests.calibration.graphs import of_nodes, random_weight
from tests.expected_errors import raises

SQUEEZE = "/squeeze/Conv"
"""The channel attention of the mixed graph: it reads pooled values, so it stays float."""


def decisions(model: onnx.ModelProto, policy: PlacementPolicy | None = None) -> dict[str, Decision]:
    all_decisions = decide(model, find_quantizable_ops(model), policy or PlacementPolicy())
    return {decision.node: decision for decision in all_decisions}


def int8_names(model: onnx.ModelProto, policy: PlacementPolicy | None = None) -> set[str]:
    return {name for name, decision in decisions(model, policy).items() if decision.int8}


def chain(*layers: tuple[str, str, Float32Array]) -> onnx.ModelProto:
    """A chain of layers from x to y, given as (node name, operator, weight)."""
    names = ["x", *(f"t{i}" for i in range(1, len(layers))), "y"]
    nodes = [
        helper.make_node(op_type, [names[i], f"w{i}"], [names[i + 1]], name=name)
        for i, (name, op_type, _) in enumerate(layers)
    ]
    return of_nodes(nodes, {f"w{i}": weight for i, (_, _, weight) in enumerate(layers)}, (1, 4, 8, 8))


def between_convs(name: str, weight: Float32Array) -> onnx.ModelProto:
    conv = random_weight(4, 4, 1, 1)
    return chain(
        ("first", "Conv", conv),
        (name, "Conv", weight),
        ("inner", "Conv", random_weight(4, weight.shape[0], 1, 1)),
        ("last", "Conv", conv),
    )


def test_inner_weighted_layers_become_int8_and_the_ends_stay_float(mixed_graph: onnx.ModelProto) -> None:
    by_node = decisions(mixed_graph)
    assert {name for name, decision in by_node.items() if not decision.int8} == {"/head/Conv", "/tail/Conv", SQUEEZE}
    assert by_node["/head/Conv"].reason.startswith("it is the first layer")
    assert by_node["/tail/Conv"].reason.startswith("it is the last layer")
    assert {by_node[name].op_type for name in by_node} == {"Conv", "ConvTranspose", "MatMul"}


def test_only_layers_with_constant_weights_are_sites(mixed_graph: onnx.ModelProto) -> None:
    assert {op.op_type for op in find_quantizable_ops(mixed_graph)} == {"Conv", "ConvTranspose", "MatMul"}


def test_include_takes_exactly_what_matches_the_ends_too(mixed_graph: onnx.ModelProto) -> None:
    assert int8_names(mixed_graph, PlacementPolicy(include=("/head/*", "/fuse/Conv"))) == {"/head/Conv", "/fuse/Conv"}
    everything = PlacementPolicy(include=("*",))
    assert int8_names(mixed_graph, everything) == set(decisions(mixed_graph)) - {SQUEEZE}


def test_exclude_wins_over_include(mixed_graph: onnx.ModelProto) -> None:
    policy = PlacementPolicy(include=("*",), exclude=("/fuse/*",))
    by_node = decisions(mixed_graph, policy)
    assert not by_node["/fuse/Conv"].int8
    assert by_node["/fuse/Conv"].reason == "excluded by '/fuse/*'"


@pytest.mark.parametrize("policy", [PlacementPolicy(include=("nothing*",)), PlacementPolicy(exclude=("nothing*",))])
def test_a_pattern_that_matches_nothing_is_refused(mixed_graph: onnx.ModelProto, policy: PlacementPolicy) -> None:
    names = tuple(op.node for op in find_quantizable_ops(mixed_graph))
    with raises(UsageError, found="nothing*", wanted=names) as caught:
        decisions(mixed_graph, policy)
    assert "/head/Conv" in str(caught.value.remedy)


def test_a_mean_over_channels_stays_float_and_does_not_count_as_a_layer() -> None:
    mean = np.full((1, 4, 1, 1), 0.25, np.float32)
    by_node = decisions(between_convs("statistic", mean), PlacementPolicy(include=("*",)))
    assert not by_node["statistic"].int8
    assert "sum or mean over channels" in by_node["statistic"].reason
    assert by_node["inner"].int8


def test_nearly_a_mean_is_a_layer_like_any_other() -> None:
    nearly = np.full((1, 4, 1, 1), 0.25, np.float32)
    nearly[0, 0] = 0.26
    assert "nearly" in int8_names(between_convs("nearly", nearly))


def test_a_colour_shift_is_not_taken_for_the_first_layer() -> None:
    shift = np.diag(np.ones(4, np.float32)).reshape(4, 4, 1, 1)
    conv = random_weight(4, 4, 1, 1)
    model = chain(("shift", "Conv", shift), ("first", "Conv", conv), ("inner", "Conv", conv), ("last", "Conv", conv))
    by_node = decisions(model)
    assert [decision.int8 for decision in by_node.values()] == [False, False, True, False]
    assert "diagonal" in by_node["shift"].reason
    assert by_node["first"].reason.startswith("it is the first layer")


def test_float32_islands_stay_float_even_when_included() -> None:
    model = between_convs("block/fp32_norm/Conv", random_weight(4, 4, 1, 1))
    decision = decisions(model, PlacementPolicy(include=("*",)))["block/fp32_norm/Conv"]
    assert not decision.int8
    assert "fp32" in decision.reason


def test_a_matmul_of_two_computed_operands_is_attention() -> None:
    model = chain(("first", "Conv", random_weight(4, 4, 1, 1)), ("last", "Conv", random_weight(4, 4, 1, 1)))
    model.graph.node.append(helper.make_node("MatMul", ["t1", "t1"], ["z"], name="scores"))
    assert "attention" in decisions(model, PlacementPolicy(include=("*",)))["scores"].reason


def test_gemm_takes_its_channel_axis_from_the_transposition() -> None:
    for transposed, axis in ((0, 1), (1, 0)):
        model = chain(("gemm", "Gemm", random_weight(4, 4)))
        model.graph.node[0].attribute.append(helper.make_attribute("transB", transposed))
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 4]))
        assert find_quantizable_ops(model)[0].channel_axis == axis


def test_weights_of_another_type_or_rank_stay_float() -> None:
    model = chain(("stack", "MatMul", random_weight(1, 4, 8, 8)))
    assert "rank 4" in find_quantizable_ops(model)[0].obstacle


def test_weights_that_are_not_finite_are_refused() -> None:
    weight = random_weight(4, 4, 1, 1)
    weight[0, 0] = np.nan
    with raises(CalibrationError, found="broken", wanted="finite weights"):
        find_quantizable_ops(between_convs("broken", weight))


def test_a_quantized_graph_is_refused() -> None:
    model = chain(("first", "Conv", random_weight(4, 4, 1, 1)))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "scale"))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["y", "scale"], ["levels"], name="q"))
    with raises(CalibrationError, found="q", wanted="a float graph"):
        find_quantizable_ops(model)


def test_nodes_without_a_name_or_with_a_common_one_get_their_own() -> None:
    conv = random_weight(4, 4, 1, 1)
    model = chain(("Conv_1", "Conv", conv), ("", "Conv", conv), ("Conv_1", "Conv", conv))
    model = name_nodes(model).model
    names = [node.name for node in model.graph.node]
    assert names[0] == "Conv_1"
    assert len(set(names)) == 3
    model = name_nodes(model).model
    assert [node.name for node in model.graph.node] == names

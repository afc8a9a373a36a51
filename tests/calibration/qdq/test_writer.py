"""The written INT8 graph is valid ONNX, follows TensorRT's rules, quantizes nothing twice, and is close to float."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sr_edge.calibration import Calibration, Decision, PlacementPolicy, Provenance, TensorRange, calibrate
from sr_edge.calibration.post_training import quantized_model
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.errors import CalibrationError, UsageError
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType, Precision
from tests.calibration.graphs import PsnrDb, Run, of_nodes, random_weight
from tests.expected_errors import raises


@pytest.fixture(scope="module")
def calibration(mixed_file: Path, batches: list[Batch]) -> Calibration:
    return calibrate(mixed_file, batches, include=["*"])


@pytest.fixture(params=[(s, r) for s in ActivationType for r in (Precision.FP32, Precision.FP16)], ids=str)
def quantized(
    request: pytest.FixtureRequest, mixed_graph: onnx.ModelProto, calibration: Calibration
) -> onnx.ModelProto:
    activation_type, float_precision = request.param
    return quantized_model(mixed_graph, calibration, activation_type, float_precision)


def test_every_activation_type_and_float_precision_is_valid_onnx(quantized: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantized, full_check=True)
    assert quantized.opset_import[0].version == 17


def test_every_activation_type_and_float_precision_is_near_the_float_graph(
    quantized: onnx.ModelProto, mixed_graph: onnx.ModelProto, batches: list[Batch], run_as_written: Run, psnr_db: PsnrDb
) -> None:
    loss_db = psnr_db(run_as_written(quantized, batches[0]), run_as_written(mixed_graph, batches[0]))
    assert 40.0 < loss_db < 90.0


def test_inputs_and_outputs_stay_as_they_were(quantized: onnx.ModelProto, mixed_graph: onnx.ModelProto) -> None:
    assert list(quantized.graph.input) == list(mixed_graph.graph.input)
    assert list(quantized.graph.output) == list(mixed_graph.graph.output)


def test_the_float_graph_is_left_alone(mixed_graph: onnx.ModelProto, calibration: Calibration) -> None:
    before = mixed_graph.SerializeToString(deterministic=True)
    insert_qdq(mixed_graph, calibration, ActivationType.INT8)
    assert mixed_graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("float_precision", [Precision.FP32, Precision.FP16])
def test_int8_activations_keep_tensorrts_rules(
    mixed_graph: onnx.ModelProto, calibration: Calibration, float_precision: Precision
) -> None:
    """Zero points 0, INT8 levels only, no dequantized INT32 bias, positive scales, no node of two float types."""
    view = view_graph(quantized_model(mixed_graph, calibration, ActivationType.INT8, float_precision))
    linear = [node for node in view.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert linear
    for node in linear:
        scale, zero_point = (view.constants[name] for name in node.input[1:])
        assert zero_point.dtype == np.int8
        assert not np.any(zero_point)
        assert np.isfinite(scale.astype(np.float64)).all()
        assert scale.astype(np.float64).min() > 0.0
    assert {view.types[node.input[0]] for node in linear if node.op_type == "DequantizeLinear"} == {TensorProto.INT8}
    for node in view.nodes:
        kinds = {view.types[name] for name in node.input if view.is_float(name)}
        assert len(kinds) <= 1 or node.op_type == "Resize", f"{node.name} mixes float types"


def test_biases_stay_float(quantized: onnx.ModelProto) -> None:
    view = view_graph(quantized)
    biases = [node.input[2] for node in view.nodes if node.op_type in ("Conv", "ConvTranspose")]
    assert biases
    assert all(np.issubdtype(view.constants[bias].dtype, np.floating) for bias in biases)


def test_no_quantize_stands_on_anything_but_a_layers_input(quantized: onnx.ModelProto) -> None:
    view = view_graph(quantized)
    for at, node in enumerate(view.nodes):
        if node.op_type == "DequantizeLinear":
            readers = {view.nodes[reader].op_type for reader in view.readers(at)}
            assert readers <= {"Conv", "ConvTranspose", "MatMul"}


def test_a_shared_weight_is_quantized_once_where_its_inputs_are_not_smoothed_apart(
    mixed_graph: onnx.ModelProto, calibration: Calibration
) -> None:
    unsmoothed = {name: replace(tensor_range, smoothing=()) for name, tensor_range in calibration.ranges.items()}
    quantized = insert_qdq(mixed_graph, replace(calibration, ranges=unsmoothed), ActivationType.INT8).model
    uses = Counter(name for node in quantized.graph.node for name in node.input)
    assert uses["shared.weight/int8_axis0"] == 2


def test_every_name_is_there_once(mixed_graph: onnx.ModelProto, calibration: Calibration) -> None:
    quantized = insert_qdq(mixed_graph, calibration, ActivationType.INT8).model
    names = [node.name for node in quantized.graph.node]
    assert len(set(names)) == len(names)
    assert len({tensor.name for tensor in quantized.graph.initializer}) == len(quantized.graph.initializer)


def test_an_activation_of_an_int8_and_a_float_layer_reaches_the_float_one_unrounded() -> None:
    quantized = insert_qdq(two_readers(), calibration_of_two_readers(int8=["a"]), ActivationType.INT8).model
    inputs = {node.name: node.input[0] for node in quantized.graph.node if node.op_type == "Conv"}
    assert inputs == {"a": "x/int8", "b": "x"}


def test_two_int8_readers_of_one_activation_share_its_pair() -> None:
    quantized = insert_qdq(two_readers(), calibration_of_two_readers(int8=["a", "b"]), ActivationType.INT8).model
    assert [node.op_type for node in quantized.graph.node].count("QuantizeLinear") == 1


def test_float_weights_that_nothing_reads_any_more_are_gone(quantized: onnx.ModelProto) -> None:
    read = {name for node in quantized.graph.node for name in node.input}
    assert {tensor.name for tensor in quantized.graph.initializer} <= read
    assert "fuse.weight" not in read


def test_int8_weights_make_the_file_smaller(mixed_graph: onnx.ModelProto, calibration: Calibration) -> None:
    unsmoothed = {name: replace(tensor_range, smoothing=()) for name, tensor_range in calibration.ranges.items()}
    view = view_graph(insert_qdq(mixed_graph, replace(calibration, ranges=unsmoothed), ActivationType.INT8).model)
    held = Counter[str]()
    for constant in view.constants.values():
        held[str(constant.dtype)] += constant.nbytes
    float_view = view_graph(mixed_graph)
    weights = {name: c for name, c in float_view.constants.items() if c.ndim >= 2 and not name.startswith("squeeze")}
    assert held["int8"] == pytest.approx(sum(weight.nbytes for weight in weights.values()) / 4, rel=0.25)
    left = [c.shape for name, c in view.constants.items() if c.dtype == np.float32 and name in weights]
    assert not left


def test_a_uint8_frame_graph_is_quantized_too(
    mixed_graph: onnx.ModelProto, batches: list[Batch], tmp_path: Path, run_as_written: Run
) -> None:
    path = tmp_path / "frames.onnx"
    onnx.save(wrap_uint8(mixed_graph).model, path)
    calibration = calibrate(path, batches)
    frame = np.rint(batches[0] * 255.0).astype(np.uint8).transpose(0, 2, 3, 1)
    reference = run_as_written(onnx.load(path), frame)
    picture = run_as_written(quantized_model(onnx.load(path), calibration, ActivationType.INT8, Precision.FP32), frame)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - reference).max() <= 3


def test_a_weight_in_a_constant_node_is_quantized_and_dropped() -> None:
    model = two_readers()
    weight = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    quantized = insert_qdq(model, calibration_of_two_readers(int8=["a"]), ActivationType.INT8).model
    assert not [node for node in quantized.graph.node if node.op_type == "Constant"]


def test_a_layer_that_the_graph_does_not_have_is_refused(
    mixed_graph: onnx.ModelProto, calibration: Calibration
) -> None:
    with raises(CalibrationError, found=calibration.int8_nodes[0], wanted=("a", "b")):
        insert_qdq(two_readers(), calibration, ActivationType.INT8)


def test_an_opset_without_channel_scales_is_refused(calibration: Calibration) -> None:
    model = two_readers()
    model.opset_import[0].version = 11
    with raises(CalibrationError, found=11, wanted=13):
        insert_qdq(model, calibration, ActivationType.INT8)


@pytest.mark.parametrize("float_precision", [Precision.BF16, Precision.INT8])
def test_a_rest_that_no_graph_can_hold_is_refused(
    mixed_graph: onnx.ModelProto, calibration: Calibration, float_precision: Precision
) -> None:
    with raises(UsageError, found=float_precision, wanted=(Precision.FP32, Precision.FP16)):
        quantized_model(mixed_graph, calibration, ActivationType.INT8, float_precision)


def two_readers() -> onnx.ModelProto:
    """x -> conv a, x -> conv b; y = a + b."""
    nodes = [helper.make_node("Conv", ["x", f"w{name}"], [name], name=name) for name in "ab"]
    nodes.append(helper.make_node("Add", ["a", "b"], ["y"], name="sum"))
    weights = {f"w{name}": random_weight(4, 4, 1, 1, seed=seed) for seed, name in enumerate("ab")}
    return of_nodes(nodes, weights, (1, 4, 8, 8))


def calibration_of_two_readers(int8: list[str]) -> Calibration:
    decisions = tuple(Decision(name, "Conv", name in int8, "chosen by the test") for name in "ab")
    return Calibration(Provenance("", (), "min-max"), PlacementPolicy(), {"x": TensorRange(-1.0, 1.0, 1.0)}, decisions)

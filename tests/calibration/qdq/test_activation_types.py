"""INT8 and UINT8 activations give the same bits in ONNX Runtime, and OpenVINO agrees on UINT8."""

from __future__ import annotations

import platform

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from sr_edge.calibration import Calibration, Decision, PlacementPolicy, Provenance, TensorRange, calibrate
from sr_edge.calibration.calibrated_file import choose_activation_type
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.errors import UsageError
from sr_edge.export.passes.cleanup import name_nodes
from sr_edge.export.passes.tracing import trace
from sr_edge.frames import Batch
from sr_edge.runtimes import describe_machine
from sr_edge.spec import ActivationType
from tests.calibration.graphs import AGREEMENT_DB, TILE, PsnrDb, Run, of_nodes, parsed, random_weight
from tests.calibration.networks import trained
from tests.expected_errors import raises
from tests.runtimes.here import require_exact_int8


def transposed_convs() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, stride=2),
        nn.PReLU(16),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, groups=2),
        nn.Conv2d(8, 3, 3, padding=1),
    )


def dilated_grouped_convs() -> nn.Module:
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=4, dilation=4, groups=4),
        nn.Hardswish(),
        nn.Conv2d(16, 48, 3, padding=1),
        nn.PixelShuffle(4),
        nn.Conv2d(3, 3, 3, padding=1),
    )


UNUSUAL = {"strided and transposed": transposed_convs, "dilated and grouped": dilated_grouped_convs}
TRAINED = ("residual in residual", "window attention", "convnext", "depthwise", "grouped", "transposed")


@pytest.fixture(scope="module", params=["mixed", *UNUSUAL, *TRAINED])
def network(request: pytest.FixtureRequest, mixed_graph: onnx.ModelProto) -> onnx.ModelProto:
    if request.param == "mixed":
        return mixed_graph
    torch.manual_seed(0)
    return trace(UNUSUAL[request.param]() if request.param in UNUSUAL else trained(request.param), TILE)


@pytest.fixture(scope="module")
def activation_types(
    network: onnx.ModelProto, batches: list[Batch], tmp_path_factory: pytest.TempPathFactory
) -> dict[ActivationType, onnx.ModelProto]:
    path = tmp_path_factory.mktemp("activation_types") / "float.onnx"
    onnx.save(network, path)
    calibration = calibrate(path, batches, method="percentile", include=["*"])
    return {
        activation_type: insert_qdq(onnx.load(path), calibration, activation_type).model
        for activation_type in ActivationType
    }


def test_both_activation_types_are_bit_equal_as_written(
    activation_types: dict[ActivationType, onnx.ModelProto], batches: list[Batch], run_as_written: Run
) -> None:
    signed, unsigned = (
        run_as_written(activation_types[activation_type], batches[0]) for activation_type in ActivationType
    )
    np.testing.assert_array_equal(signed, unsigned)


def test_both_activation_types_are_bit_equal_optimized(
    activation_types: dict[ActivationType, onnx.ModelProto], batches: list[Batch], run_optimized: Run
) -> None:
    signed, unsigned = (
        run_optimized(activation_types[activation_type], batches[0]) for activation_type in ActivationType
    )
    np.testing.assert_array_equal(signed, unsigned)


def test_openvino_agrees_with_onnxruntime_on_uint8_activations(
    activation_types: dict[ActivationType, onnx.ModelProto],
    batches: list[Batch],
    run_as_written: Run,
    run_openvino: Run,
    psnr_db: PsnrDb,
) -> None:
    require_exact_int8()
    model = activation_types[ActivationType.UINT8]
    agreement_db = min(psnr_db(run_openvino(model, batch), run_as_written(model, batch)) for batch in batches[:3])
    assert agreement_db >= AGREEMENT_DB


def concat_toy() -> onnx.ModelProto:
    """Two convs, the second behind a Concat of signed values: the smallest graph with OpenVINO's fault."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "a"], ["b"], name="concat", axis=1),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="second"),
    ]
    return of_nodes(nodes, {"w1": random_weight(8, 3, 3, 3), "w2": random_weight(4, 16, 1, 1, seed=1)})


def has_amx() -> bool:
    return "amx_int8" in (describe_machine().cpu_flags or ())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fault was seen in OpenVINO's x86-64 kernels only")
@pytest.mark.skipif(has_amx(), reason="on a CPU with AMX, OpenVINO computes signed values behind a Concat correctly")
def test_openvino_still_loses_the_sign_of_signed_values_behind_a_concat(
    batches: list[Batch], run_as_written: Run, run_openvino: Run, psnr_db: PsnrDb
) -> None:
    require_exact_int8()
    model = concat_toy()
    decisions = tuple(Decision(op.node, op.op_type, op.node == "second", "") for op in find_quantizable_ops(model))
    ranges = {"b": TensorRange(-8.0, 8.0, 8.0)}
    calibration = Calibration(Provenance("", (), "min-max"), PlacementPolicy(), ranges, decisions)
    agreement_db = {}
    for activation_type in ActivationType:
        quantized = insert_qdq(model, calibration, activation_type).model
        agreement_db[activation_type] = psnr_db(
            run_openvino(quantized, batches[0]), run_as_written(quantized, batches[0])
        )
    assert agreement_db[ActivationType.UINT8] >= AGREEMENT_DB
    assert agreement_db[ActivationType.INT8] < 20.0, (
        "OpenVINO now computes Concat -> signed Q/DQ -> INT8 conv correctly: "
        "ActivationType.UINT8 can be dropped once the oldest supported version is this one"
    )


def relu_toy(reader_of_the_relu: str) -> tuple[onnx.ModelProto, Calibration]:
    """Two convolutions with a Relu between them and another reader of it; the range of the Relu is much too small."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node(reader_of_the_relu, ["b"], ["d"], name="other"),
        helper.make_node("Concat", ["c", "d"], ["y"], name="concat", axis=1),
    ]
    if not reader_of_the_relu:
        del nodes[3:]
        nodes[2].output[0] = "y"
    model = of_nodes(nodes, {"w1": random_weight(8, 3, 3, 3), "w2": random_weight(4, 8, 1, 1, seed=1)})
    decisions = tuple(Decision(op.node, op.op_type, op.node == "second", "") for op in find_quantizable_ops(model))
    ranges = {"b": TensorRange(0.0, 2.0, 1.5)}
    return model, Calibration(Provenance("", (), "min-max"), PlacementPolicy(), ranges, decisions)


@pytest.mark.parametrize(("other", "zero_point_value"), [("", 0), ("Sigmoid", 128)])
def test_what_a_relu_makes_for_int8_alone_counts_from_zero_and_saturates_alike(
    other: str, zero_point_value: int, batches: list[Batch], run_as_written: Run
) -> None:
    model, calibration = relu_toy(other)
    signed, unsigned = (
        insert_qdq(model, calibration, activation_type).model
        for activation_type in (ActivationType.INT8, ActivationType.UINT8)
    )
    output = run_as_written(signed, batches[0])
    assert np.abs(output - run_as_written(model, batches[0])).max() > 1.0, "nothing saturates"
    np.testing.assert_array_equal(output, run_as_written(unsigned, batches[0]))
    (quantize,) = (node for node in unsigned.graph.node if node.op_type == "QuantizeLinear")
    (zero_point,) = (value for value in unsigned.graph.initializer if value.name == quantize.input[2])
    assert numpy_helper.to_array(zero_point) == zero_point_value
    assert ("Clip" in {node.op_type for node in unsigned.graph.node}) == (zero_point_value == 0)
    assert "Clip" not in {node.op_type for node in signed.graph.node}


@pytest.mark.parametrize("other", ["", "Sigmoid"])
def test_openvino_agrees_on_what_a_relu_makes(
    other: str, batches: list[Batch], run_as_written: Run, run_openvino: Run, psnr_db: PsnrDb
) -> None:
    require_exact_int8()
    unsigned = insert_qdq(*relu_toy(other), ActivationType.UINT8).model
    assert psnr_db(run_openvino(unsigned, batches[0]), run_as_written(unsigned, batches[0])) >= AGREEMENT_DB


class TestChoice:
    @pytest.mark.parametrize(
        ("targets", "runtime", "chosen"),
        [
            ((), "", ActivationType.INT8),
            ((), "openvino", ActivationType.UINT8),
            (("openvino",), "", ActivationType.UINT8),
            (("onnxruntime",), "openvino", ActivationType.INT8),
            (("onnxruntime", "openvino"), "", ActivationType.UINT8),
            (("onnxruntime", "tensorrt-rtx"), "openvino", ActivationType.INT8),
        ],
    )
    def test_the_targets_decide_before_the_timed_runtime(
        self, targets: tuple[str, ...], runtime: str, chosen: ActivationType
    ) -> None:
        assert choose_activation_type(targets, runtime) is chosen

    def test_targets_without_an_activation_type_in_common_are_refused(self) -> None:
        with raises(UsageError, found=("openvino", "tensorrt-rtx")):
            choose_activation_type(("openvino", "tensorrt-rtx"), "")


SUBGRAPH = """
    a = Conv <pads=[1,1,1,1]> (x, w1)  b = Relu (a)  c = Conv (b, w2)
    y = If (yes) <then_branch = then () => (float[n,c,h,w] t) { t = Concat <axis=1> (c, b) },
                  else_branch = otherwise () => (float[n,c,h,w] e) { e = Concat <axis=1> (b, c) }>
"""
TWICE = "a = Conv <pads=[1,1,1,1]> (x, w1)  r = Reshape (a, rows)  b = Relu (r)  y = Gemm (b, g, b)"


@pytest.mark.parametrize(("body", "output"), [(SUBGRAPH, "float[n,c,h,w] y"), (TWICE, "float[n,m] y")])
def test_a_relu_that_is_read_in_another_way_too_stays(
    body: str, output: str, batches: list[Batch], run_as_written: Run
) -> None:
    constants: dict[str, npt.ArrayLike] = {
        "w1": random_weight(8, 3, 3, 3),
        "w2": random_weight(4, 8, 1, 1, seed=1),
        "g": random_weight(8, 8, seed=2),
        "rows": np.array([-1, 8], np.int64),
        "yes": np.array(True),
    }
    model = parsed(body, constants, output=output)
    model = name_nodes(model).model
    second = find_quantizable_ops(model)[-1]
    decisions = tuple(Decision(op.node, op.op_type, op.node == second.node, "") for op in find_quantizable_ops(model))
    calibration = Calibration(
        Provenance("", (), "min-max"), PlacementPolicy(), {"b": TensorRange(0.0, 2.0, 1.5)}, decisions
    )
    signed, unsigned = (
        insert_qdq(model, calibration, activation_type).model
        for activation_type in (ActivationType.INT8, ActivationType.UINT8)
    )
    np.testing.assert_array_equal(run_as_written(signed, batches[0]), run_as_written(unsigned, batches[0]))

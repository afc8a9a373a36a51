"""The checker must be able to fail: what must overflow in float16 does, and islands cure it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference.op_run import OpRun
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export.checks import float16_kernels
from sr_edge.export.checks.float16 import LOSS_BOUND_DB, check_float16, noise_loss_db, run_float16
from sr_edge.export.checks.parity import difference
from sr_edge.export.graph.inner_tensors import observe_magnitudes
from sr_edge.export.graph.inputs import Tensor, random_inputs
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.patches import CheckPatch, PatchKind, check_patches, worst_case_patches
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.fp32_islands import FORCED_RULES
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.export.checks.counted import counted_worst_cases


class Cancelling(nn.Module):
    """Loses the picture where it is added to something large and taken back: every value fits into float16."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = 4096.0 * (1.0 + x.repeat(1, 4, 1, 1))
        return nn.functional.pixel_shuffle((large + self.first(x)) - large, 2)


def test_the_naive_cast_of_hot_features_overflows_and_the_islands_do_not(
    hot_attention_graph: onnx.ModelProto, tile: TileSpec
) -> None:
    patches = counted_worst_cases(tile)
    control = check_float16(to_fp16(hot_attention_graph, FORCED_RULES).model, hot_attention_graph, patches)
    assert control.first_overflow == "/norm/Pow"
    with raises(ExportError, found="/norm/Pow", wanted=LOSS_BOUND_DB) as caught:
        control.require_within()
    assert "fp32_" in str(caught.value.remedy)
    check = check_float16(to_fp16(hot_attention_graph).model, hot_attention_graph, patches)
    assert check.first_overflow == ""
    check.require_within()


def test_the_static_twin_of_hot_features_holds_where_its_naive_cast_gives_nan(
    hot_taylor_graph: onnx.ModelProto, taylor_tile: TileSpec
) -> None:
    patches = counted_worst_cases(taylor_tile)
    control = check_float16(to_fp16(hot_taylor_graph, FORCED_RULES).model, hot_taylor_graph, patches)
    assert control.psnr_db == -math.inf  # a NaN reached the picture
    with raises(ExportError, wanted=LOSS_BOUND_DB) as caught:
        control.require_within()
    assert "fp32_inverse_std" in str(caught.value.found)
    check_float16(to_fp16(hot_taylor_graph).model, hot_taylor_graph, patches).require_within()


def test_onnxruntime_cannot_tell_which_is_why_the_checker_exists(
    hot_attention_graph: onnx.ModelProto, tile: TileSpec
) -> None:
    naive = to_fp16(hot_attention_graph, FORCED_RULES).model
    inputs = {"input": worst_case_patches(tile)[1]}
    expected = run_onnxruntime(hot_attention_graph, inputs)["output"]
    in_runtime = difference(run_onnxruntime(naive, inputs)["output"], expected)
    in_float16 = difference(run_float16(naive, inputs).outputs["output"], expected)
    assert in_runtime.psnr_db > 60.0
    assert in_float16.psnr_db < 30.0


def test_ordinary_features_lose_next_to_nothing(attention_graph: onnx.ModelProto, tile: TileSpec) -> None:
    check = check_float16(to_fp16(attention_graph).model, attention_graph, counted_worst_cases(tile))
    check.require_within()
    assert 50.0 < check.psnr_db < 100.0  # rounding must be visible, or nothing was rounded


def test_a_float32_graph_runs_as_float32(attention_graph: onnx.ModelProto) -> None:
    inputs = random_inputs(attention_graph, 1)
    run = run_float16(attention_graph, inputs)
    np.testing.assert_allclose(run.outputs["output"], run_onnxruntime(attention_graph, inputs)["output"], atol=1e-5)


def test_more_loss_than_allowed_is_refused(attention_graph: onnx.ModelProto, tile: TileSpec) -> None:
    check = check_float16(to_fp16(attention_graph).model, attention_graph, counted_worst_cases(tile))
    with raises(ExportError, wanted=1e-6) as caught:
        check.require_within(1e-6)
    assert caught.value.found in {patch.loss_db for patch in check.patches}


@pytest.mark.parametrize("operator", ["Conv", "Gemm", "MatMul", "ReduceMean", "ReduceSum", "Erf"])
def test_our_kernels_equal_torch_rounded_once(operator: str) -> None:
    generator = np.random.default_rng(0)

    def half(*shape: int) -> Tensor:
        return generator.standard_normal(shape).astype(np.float16)

    cases: dict[str, tuple[list[Tensor], dict[str, object], Callable[..., torch.Tensor]]] = {
        "Conv": (
            [half(1, 4, 6, 5), half(6, 2, 3, 3), half(6)],
            {"pads": [1, 1, 1, 1], "group": 2, "strides": [2, 1]},
            lambda x, weight, bias: torch.conv2d(x, weight, bias, stride=(2, 1), padding=1, groups=2),
        ),
        "Gemm": ([half(3, 4), half(5, 4), half(5)], {"transB": 1}, lambda a, b, c: a @ b.T + c),
        "MatMul": ([half(2, 3, 4), half(2, 4, 5)], {}, torch.matmul),
        "ReduceMean": ([half(2, 3, 4)], {"axes": [1]}, lambda x: x.mean(1, keepdim=True)),
        "ReduceSum": ([half(2, 3, 4)], {"keepdims": 0}, torch.sum),
        "Erf": ([half(2, 3)], {}, torch.erf),
    }
    inputs, attributes, exact = cases[operator]
    expected = exact(*(torch.from_numpy(value.astype(np.float64)) for value in inputs)).numpy()
    names = [f"x{at}" for at in range(len(inputs))]
    node = onnx.helper.make_node(operator, names, ["y"])
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    kind = onnx.TensorProto.FLOAT16
    values = [onnx.helper.make_tensor_value_info(n, kind, v.shape) for n, v in zip(names, inputs, strict=True)]
    result = onnx.helper.make_tensor_value_info("y", kind, expected.shape)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", values, [result]), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    output = run_float16(model, dict(zip(names, inputs, strict=True))).outputs["y"]
    assert output.dtype == np.float16
    np.testing.assert_allclose(output.astype(np.float64), expected, rtol=2**-10, atol=2**-14)


def one_node(operator: str, inputs: dict[str, Tensor], constants: dict[str, Tensor], **attributes: Any) -> Tensor:
    """What a node makes of float16 inputs in the check's arithmetic; "" names an input that is left out."""
    node = onnx.helper.make_node(operator, [*inputs, *constants], ["y"], **attributes)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, value.shape)
        for name, value in inputs.items()
    ]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, None)
    graph = onnx.helper.make_graph([node], "g", values, [output], initializer=weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    return run_float16(model, inputs).outputs["y"]


class TestOperatorsThatOnnxComputesSlowlyOrNotAtAll:
    """Each equals torch's float32 result, rounded once."""

    generator = np.random.default_rng(0)
    x = generator.standard_normal((1, 4, 6, 5)).astype(np.float16)
    wide = torch.from_numpy(x.astype(np.float32))

    def equal(self, output: Tensor, expected: torch.Tensor) -> None:
        assert output.dtype == np.float16
        np.testing.assert_allclose(output.astype(np.float32), expected.half().float().numpy(), rtol=2**-10, atol=2**-14)

    def test_sampling_at_any_place(self) -> None:
        grid = self.generator.uniform(-1, 1, (1, 3, 7, 2)).astype(np.float16)
        output = one_node("GridSample", {"x": self.x, "grid": grid}, {}, mode="bilinear", padding_mode="border")
        places = torch.from_numpy(grid.astype(np.float32))
        self.equal(output, nn.functional.grid_sample(self.wide, places, padding_mode="border", align_corners=False))

    @pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
    def test_resizing(self, mode: str) -> None:
        choices: dict[str, dict[str, Any]] = {
            "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "linear": {"coordinate_transformation_mode": "half_pixel"},
            "cubic": {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75},
        }
        scales = {"": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
        output = one_node("Resize", {"x": self.x}, scales, mode=mode, **choices[mode])
        method = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
        self.equal(output, nn.functional.interpolate(self.wide, scale_factor=2.0, mode=method))

    def test_transposed_convolution(self) -> None:
        weight = self.generator.standard_normal((4, 3, 4, 4)).astype(np.float16)
        output = one_node("ConvTranspose", {"x": self.x, "w": weight}, {}, strides=[2, 2], pads=[1, 1, 1, 1])
        kernel = torch.from_numpy(weight.astype(np.float32))
        self.equal(output, nn.functional.conv_transpose2d(self.wide, kernel, stride=2, padding=1))

    def test_convolution_with_unequal_padding(self) -> None:
        weight = self.generator.standard_normal((3, 4, 3, 3)).astype(np.float16)
        output = one_node("Conv", {"x": self.x, "w": weight}, {}, pads=[0, 0, 1, 2])
        kernel = torch.from_numpy(weight.astype(np.float32))
        self.equal(output, nn.functional.conv2d(nn.functional.pad(self.wide, (0, 2, 0, 1)), kernel))

    def test_elements_along_an_axis_of_any_length(self) -> None:
        values = np.arange(200, dtype=np.float16)[np.newaxis]
        places = np.argsort(np.random.default_rng(0).random((1, 200)), axis=1)
        sorted_again = {"places": np.argsort(places, axis=1)}
        gathered = one_node("GatherElements", {"x": values}, {"places": places}, axis=1)
        assert np.array_equal(gathered, places.astype(np.float16))
        assert np.array_equal(one_node("GatherElements", {"x": gathered}, sorted_again, axis=1), values)
        updates = {"places": places, "updates": gathered}
        assert np.array_equal(one_node("ScatterElements", {"x": np.zeros_like(values)}, updates, axis=1), values)

    @pytest.mark.parametrize("mode", ["constant", "reflect"])
    def test_negative_padding_crops(self, mode: str) -> None:
        pads = {"pads": np.array([0, 0, -1, 2, 0, 0, -2, 1], np.int64)}
        output = one_node("Pad", {"x": self.x}, pads, mode=mode)
        cropped = self.wide[:, :, 1:-2]
        self.equal(output, nn.functional.pad(cropped, (2, 1, 0, 0), mode=mode))

    def test_what_overflows_in_float16_is_infinite(self) -> None:
        large = np.full((1, 1, 2, 2), 60000, np.float16)
        output = one_node("ConvTranspose", {"x": large, "w": np.full((1, 1, 1, 1), 2, np.float16)}, {})
        assert np.isinf(output).all()

    def test_an_operator_that_no_kernel_computes_is_an_export_error(self) -> None:
        with raises(ExportError, found="GridSample#0"):
            one_node("GridSample", {"x": self.x, "grid": np.zeros((1, 3, 7, 2), np.float16)}, {}, mode="unknown")


def half_model(
    node: onnx.NodeProto, *shapes: tuple[int, ...], result: int = onnx.TensorProto.FLOAT16
) -> onnx.ModelProto:
    """One node on float16 inputs x0, x1, …"""
    kind = onnx.TensorProto.FLOAT16
    values = [onnx.helper.make_tensor_value_info(f"x{at}", kind, shape) for at, shape in enumerate(shapes)]
    output = onnx.helper.make_tensor_value_info("y", result, np.broadcast_shapes(*shapes))
    graph = onnx.helper.make_graph([node], "g", values, [output])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def any_halves(shape: tuple[int, ...], seed: int) -> Tensor:
    """Every kind of float16: subnormal, huge, infinite, NaN, as often as their bits are."""
    return np.random.default_rng(seed).integers(0, 2**16, shape, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize(
    ("operator", "exact"), [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)]
)
def test_elementwise_arithmetic_is_float16s_to_the_bit(operator: str, exact: np.ufunc) -> None:
    a, b = any_halves((64, 500), 1), any_halves((500,), 2)
    model = half_model(onnx.helper.make_node(operator, ["x0", "x1"], ["y"]), a.shape, b.shape)
    output = run_float16(model, {"x0": a, "x1": b}).outputs["y"]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(output, exact(a, b))  # NaNs equal NaNs
    assert output.dtype == np.float16


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_q_and_dq_equal_onnxruntimes(kind: str) -> None:
    zero = {"int8": 0, "uint8": 128}[kind]
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,3,50] x) => (float[1,2,3,50] y, float[1,2,3,50] z)
    <float s = {{0.01}}, {kind} zero = {{{zero}}}, float[2] t = {{0.02, 0.03}}, {kind}[2] u = {{{zero}, {zero}}}>
    {{ q = QuantizeLinear(x, s, zero)  y = DequantizeLinear(q, s, zero)
       p = QuantizeLinear<axis = 1>(x, t, u)  z = DequantizeLinear<axis = 1>(p, t, u) }}"""
    model = onnx.parser.parse_model(text)
    inputs = {"x": np.random.default_rng(0).normal(0, 2, (1, 2, 3, 50)).astype(np.float32)}
    outputs, expected = run_float16(model, inputs).outputs, run_onnxruntime(model, inputs)
    for name in ("y", "z"):
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_casts_round_and_overflow() -> None:
    node = onnx.helper.make_node("Cast", ["x0"], ["y"], to=onnx.TensorProto.FLOAT)
    halves = any_halves((1000,), 3)
    np.testing.assert_array_equal(
        run_float16(half_model(node, halves.shape, result=onnx.TensorProto.FLOAT), {"x0": halves}).outputs["y"],
        halves.astype(np.float32),
    )
    wide = np.array([65519.0, 65520.0, -1e9, 1 + 2.0**-11, 1e-8], np.float32)
    np.testing.assert_array_equal(
        float16_kernels.rounded(float16_kernels.as_torch(wide), np.float16),
        np.array([65504, np.inf, -np.inf, 1, 0], np.float16),
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_number_that_is_not_finite_is_seen(value: float, dtype: type[np.floating]) -> None:
    numbers = np.array([0.0, -65504.0, 65504.0, 6e-8], dtype)
    assert float16_kernels.all_finite(numbers)
    numbers[2] = value
    assert not float16_kernels.all_finite(numbers)


def test_arrays_that_torch_would_refuse_are_taken() -> None:
    numbers = np.arange(4, dtype=np.float16)[::-1]
    numbers.flags.writeable = False
    assert float16_kernels.as_torch(numbers).tolist() == [3, 2, 1, 0]


class Relu(OpRun):
    """Computes in float32 whatever its input is."""

    def _run(self, x: Tensor) -> tuple[Tensor]:
        return (np.maximum(x.astype(np.float32), 0.0),)


def test_a_kernel_that_computes_in_another_type_is_noticed(shuffle_graph: onnx.ModelProto, tile: TileSpec) -> None:
    inputs = {"input": worst_case_patches(tile)[0]}
    assert run_float16(to_fp16(shuffle_graph).model, inputs).first_overflow == ""
    with raises(ExportError, found="float32", wanted="float16"):
        run_float16(to_fp16(shuffle_graph).model, inputs, kernels=[*float16_kernels.KERNELS, Relu])


def test_the_layer_that_loses_is_named(tile: TileSpec) -> None:
    torch.manual_seed(0)
    graph = simplify(trace(Cancelling(), tile)).model
    binary = worst_case_patches(tile)[1]
    check = check_float16(to_fp16(graph).model, graph, [CheckPatch("binary noise", PatchKind.WORST_CASE, binary)])
    check.require_within()
    assert check.patches[0].loses_in.split()[0] in ("Add", "Mul", "Sub")
    assert check.remarks


@pytest.mark.parametrize("kind", [PatchKind.PHOTOGRAPH, PatchKind.FLAT])
def test_a_picture_that_loses_decides(kind: PatchKind, tile: TileSpec) -> None:
    torch.manual_seed(0)
    graph = simplify(trace(Cancelling(), tile)).model
    grey = np.full((1, 3, tile.height, tile.width), 0.5, np.float32)
    check = check_float16(to_fp16(graph).model, graph, [CheckPatch("grey", kind, grey)])
    with raises(ExportError, found=check.loss_db, wanted=LOSS_BOUND_DB):
        check.require_within()


def test_the_loss_of_added_noise() -> None:
    assert noise_loss_db(40.0) == pytest.approx(10 * math.log10(2.0))
    assert noise_loss_db(63.4) == pytest.approx(0.0198, abs=1e-3)
    assert noise_loss_db(math.inf) == 0.0
    assert noise_loss_db(-math.inf) == math.inf


class Masked(nn.Module):
    """Attention over rows with a mask of minus infinity, as many transformers write it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x.transpose(2, 3) @ x
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(mask, -torch.inf), -1)
        return nn.functional.interpolate(x @ weights.transpose(2, 3), scale_factor=2.0)


def test_infinity_in_a_mask_is_no_overflow(tile: TileSpec) -> None:
    graph = simplify(trace(Masked(), tile)).model
    patches = counted_worst_cases(tile)
    magnitudes = observe_magnitudes(graph, [patch.batch for patch in patches])
    assert math.inf in magnitudes.values()
    check = check_float16(to_fp16(graph, magnitudes=magnitudes).model, graph, patches)
    check.require_within()


class Bursting(nn.Module):
    """Holds photographs, and overflows float16 on contrasts as hard as those of binary noise alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        contrast = (x[..., 1:] - x[..., :-1]).abs().mean()
        burst = (torch.relu(contrast - 0.4) * 6e4).square()
        return nn.functional.interpolate((x + burst) - burst, scale_factor=2.0)


def test_a_worst_case_that_overflows_is_reported_and_the_photographs_decide(tile: TileSpec) -> None:
    graph = simplify(trace(Bursting(), tile)).model
    patches = check_patches(tile)
    check = check_float16(to_fp16(graph, FORCED_RULES).model, graph, patches)
    check.require_within()
    (worst,) = [result for result in check.patches if result.patch == "binary noise"]
    assert worst.first_overflow and worst.loss_db > 1.0
    assert len(check.remarks) == 1
    counted = [CheckPatch(patch.name, PatchKind.PHOTOGRAPH, patch.batch) for patch in patches]
    with raises(ExportError, found=worst.first_overflow, wanted=LOSS_BOUND_DB):
        check_float16(to_fp16(graph, FORCED_RULES).model, graph, counted).require_within()

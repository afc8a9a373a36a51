"""Products whose columns are read apart, constant factors in weights, and operators that broadcast without Expand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.passes.attention.broadcasting import broadcast_without_expand
from sr_edge.export.passes.attention.factors import factors_in_weights
from sr_edge.export.passes.attention.product_columns import products_of_columns
from tests.export.passes.attention.window_graphs import count
from tests.export.passes.rewrites.equal_graphs import model_of, require_equal

Array = npt.NDArray[Any]

RANDOM = np.random.default_rng(0)
ROWS = {"x": RANDOM.standard_normal((10, 4))}
WEIGHT, BIAS = RANDOM.standard_normal((4, 6)), RANDOM.standard_normal(6)


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], **attributes)


def model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), **constants: Any) -> onnx.ModelProto:
    return model_of(nodes, ROWS, constants, outputs=outputs)


def columns(
    product: onnx.NodeProto, bounds: tuple[tuple[int, int], ...] = ((0, 2), (2, 6)), **constants: Any
) -> onnx.ModelProto:
    """A product "p", of which two Slice nodes read columns, whose sums over the rows of columns are multiplied."""
    nodes = [product]
    for number, (begin, end) in enumerate(bounds):
        constants |= {f"b{number}": np.array([begin]), f"e{number}": np.array([end])}
        nodes.append(node("Slice", ["p", f"b{number}", f"e{number}", "axis"], f"s{number}"))
        nodes.append(node("ReduceMax", [f"s{number}"], f"m{number}", axes=[1]))
    nodes.append(node("Mul", ["m0", "m1"], "y"))
    return model(*nodes, axis=np.array([1]), **constants)


@pytest.mark.parametrize(
    ("product", "constants"),
    [
        (node("MatMul", ["x", "w"], "p"), {"w": WEIGHT}),
        (node("Gemm", ["x", "w", "b"], "p"), {"w": WEIGHT, "b": BIAS}),
        (node("Gemm", ["x", "w", "b"], "p", transB=1, alpha=0.5, beta=2.0), {"w": WEIGHT.T.copy(), "b": BIAS}),
        (node("Gemm", ["x", "w", "b"], "p"), {"w": WEIGHT, "b": np.array([3.0])}),
    ],
    ids=["MatMul", "Gemm", "transposed weight", "one bias"],
)
def test_columns_become_products(product: onnx.NodeProto, constants: dict[str, Any]) -> None:
    plain = columns(product, **constants)
    result = products_of_columns(plain)
    require_equal(result, plain, ROWS, tolerance=1e-12)
    assert (count(result.model, "Slice"), count(result.model, "MatMul", "Gemm")) == (0, 2)
    assert not products_of_columns(result.model).changed


@pytest.mark.parametrize("bounds", [((0, 2), (3, 6)), ((0, 3), (2, 6)), ((0, 2), (2, 5))])
def test_columns_that_overlap_or_leave_some_out_stay(bounds: tuple[tuple[int, int], ...]) -> None:
    assert not products_of_columns(columns(node("MatMul", ["x", "w"], "p"), bounds, w=WEIGHT)).changed


def test_a_product_that_is_an_output_stays_whole() -> None:
    plain = columns(node("MatMul", ["x", "w"], "p"), w=WEIGHT)
    whole = model_of(list(plain.graph.node), ROWS, {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in plain.graph.initializer
    }, outputs=("y", "p"))  # fmt: skip
    assert not products_of_columns(whole).changed


@pytest.mark.parametrize(("factor", "operator"), [(0.3, "Mul"), (2.0, "Div")], ids=["a factor", "a divisor"])
def test_a_factor_becomes_part_of_the_weights(factor: float, operator: str) -> None:
    plain = model(
        node("Gemm", ["x", "w", "b"], "p"),
        node("Transpose", ["p"], "t"),
        node(operator, ["t", "f"], "y0"),
        node("Neg", ["y0"], "y"),
        w=WEIGHT, b=BIAS, f=np.array(factor),
    )  # fmt: skip
    result = factors_in_weights(plain)
    require_equal(result, plain, ROWS, tolerance=1e-12)
    assert count(result.model, operator) == 0
    assert not factors_in_weights(result.model).changed


def test_a_factor_of_scores_becomes_part_of_the_queries() -> None:
    plain = model(
        node("MatMul", ["x", "w"], "q"),
        node("MatMul", ["x", "v"], "k"),
        node("Transpose", ["k"], "kt"),
        node("MatMul", ["q", "kt"], "scores"),
        node("Mul", ["scores", "f"], "scaled"),
        node("Softmax", ["scaled"], "y"),
        w=WEIGHT, v=WEIGHT + 1, f=np.array([0.25]),
    )  # fmt: skip
    result = factors_in_weights(plain)
    require_equal(result, plain, ROWS, tolerance=1e-12)
    assert count(result.model, "Mul") == 0


def factored(*between: onnx.NodeProto, factor: Array, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], "p"), *between, node("Mul", ["t", "f"], "y")]
    return model(*nodes, outputs=outputs, w=WEIGHT[:, :4], f=factor)


@pytest.mark.parametrize(
    "plain",
    [
        factored(node("Neg", ["p"], "t"), factor=np.array(2.0)),
        factored(node("Transpose", ["p"], "t"), factor=np.array([1.0, 2.0, 3.0, 4.0] * 2 + [5.0, 6.0])),
        factored(node("Transpose", ["p"], "t"), factor=np.array(2.0), outputs=("y", "p")),
        factored(node("Transpose", ["p"], "t0"), node("MatMul", ["t0", "p"], "t"), factor=np.array(2.0)),
        factored(node("Transpose", ["p"], "t"), factor=np.array([[[2.0]]])),
    ],
    ids=["another operator", "several factors", "an output in the middle", "two readers", "one more axis"],
)
def test_other_factors_are_left_alone(plain: onnx.ModelProto) -> None:
    assert not factors_in_weights(plain).changed


def test_a_tensor_times_itself_is_left_alone() -> None:
    square = {"x": RANDOM.standard_normal((4, 4))}
    nodes = [
        node("MatMul", ["x", "w"], "p"),
        node("MatMul", ["p", "p"], "t"),
        node("Mul", ["t", "f"], "y"),
    ]
    plain = model_of(nodes, square, {"w": WEIGHT[:, :4], "f": np.array(2.0)})
    assert not factors_in_weights(plain).changed


def normalized(divided: str = "x", outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    nodes = [
        node("ReduceL2", ["x"], "norm", axes=[-1]),
        node("Expand", ["norm", "shape"], "wide"),
        node("Div", [divided, "wide"], "y"),
    ]
    return model(*nodes, outputs=outputs, shape=np.array([10, 4]))


def test_a_norm_is_broadcast_by_its_reader() -> None:
    plain = normalized()
    result = broadcast_without_expand(plain)
    require_equal(result, plain, ROWS)
    assert count(result.model, "Expand") == 0
    assert not broadcast_without_expand(result.model).changed


@pytest.mark.parametrize("plain", [normalized("norm"), normalized(outputs=("y", "wide"))])
def test_an_expand_that_decides_about_the_shape_stays(plain: onnx.ModelProto) -> None:
    assert not broadcast_without_expand(plain).changed

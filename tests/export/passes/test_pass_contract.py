"""What every pass over an ONNX graph keeps: the input unmodified, a reason, and no change where it says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import pytest

import sr_edge
from sr_edge.calibration import Calibration, Decision, PlacementPolicy, Provenance, TensorRange
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.errors import CalibrationError, ExportError, SrEdgeError
from sr_edge.export import graph_digest
from sr_edge.export.passes.attention.broadcasting import broadcast_without_expand
from sr_edge.export.passes.attention.factors import factors_in_weights
from sr_edge.export.passes.attention.movement import move_once
from sr_edge.export.passes.attention.product_columns import products_of_columns
from sr_edge.export.passes.attention.score_constants import constants_without_reshape, sums_of_constants
from sr_edge.export.passes.cleanup import bypass_identities, drop_unused_constants, name_nodes, raise_opset
from sr_edge.export.passes.folding.linear_layers import fold_linear_layers
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.layout.activations import mish_as_sigmoid, prelu_as_minimum
from sr_edge.export.passes.layout.assignments import assignment_as_concat
from sr_edge.export.passes.layout.channel_first import channel_first, channel_first_products
from sr_edge.export.passes.layout.group_norm import group_norm_without_reshape
from sr_edge.export.passes.layout.movement import movement_merged
from sr_edge.export.passes.layout.normalization import channel_means_as_convolutions
from sr_edge.export.passes.layout.split_convolutions import split_outputs
from sr_edge.export.passes.nv12_io import wrap_nv12
from sr_edge.export.passes.pass_result import GraphPass
from sr_edge.export.passes.rewrites.cumulative_sum import cumulative_sum_as_product
from sr_edge.export.passes.rewrites.einsum import einsum_as_product
from sr_edge.export.passes.rewrites.fourier import fourier_as_product
from sr_edge.export.passes.rewrites.masked_assignment import assignment_as_selection
from sr_edge.export.passes.rewrites.merge_axes import merge_axes
from sr_edge.export.passes.rewrites.opset import lower_opset
from sr_edge.export.passes.rewrites.pixel_rearrangement import rearranged_pixels
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import ActivationType

CONV = "(float[1,3,8,8] x) => (float[1,3,8,8] y) <float[3,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>"


def graph(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')


def calibration(int8: bool) -> Calibration:
    decisions = (Decision("Conv_0", "Conv", int8, ""),)
    return Calibration(Provenance("", (), "min-max"), PlacementPolicy(), {"x": TensorRange(0.0, 1.0, 1.0)}, decisions)


@dataclass(frozen=True)
class PassCase:
    """A pass with a graph that it changes.

    Attributes:
        idle: the pass with a graph that it leaves as it is; None for a pass that always changes the graph.
        second_run: the error with which the pass refuses its own output; None where it leaves it as it is.
    """

    run: GraphPass
    model: onnx.ModelProto
    idle: tuple[GraphPass, onnx.ModelProto] | None
    second_run: type[SrEdgeError] | None = None


FOLDABLE = "{ one = Constant<value_float = 1.0>() two = Add(one, one) c = Conv(x, w) y = Mul(c, two) }"
SHARED = "{ v = Identity(w) u = Identity(v) c = Conv(x, v) y = Conv(c, u) }"
UNUSED = "{ spare = Constant<value_float = 1.0>() y = Conv(x, w) }"
WINDOWS = """(float[1,8,12,3] x) => (float[1,8,12,3] y)
  <int64[6] split = {1, 4, 2, 6, 2, 3}, int64[4] whole = {1, 8, 12, 3}>
  { a = Reshape(x, split) b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a) c = Neg(b)
    d = Transpose<perm = [0, 1, 3, 2, 4, 5]>(c) y = Reshape(d, whole) }"""
SHUFFLE = """(float[1,8,3,5] x) => (float[1,2,6,10] y)
  <int64[6] split = {1, 2, 2, 2, 3, 5}, int64[4] whole = {1, 2, 6, 10}>
  { a = Reshape(x, split) b = Transpose<perm = [0, 1, 4, 2, 5, 3]>(a) y = Reshape(b, whole) }"""
ASSIGNMENT = """(float[2,3] x, bool[2,3] m) => (float[2,3] y)
  { n = NonZero(m) p = Transpose<perm = [1, 0]>(n) g = GatherND(x, p) s = Neg(g) y = ScatterND(x, p, s) }"""
CHANNELS_LAST = """(float[1,2,3,4] x) => (float[1,2,3,4] y) <float[2,2] w = {1, 2, 3, 4}>
  { a = Transpose<perm = [0, 2, 3, 1]>(x) b = MatMul(a, w) y = Transpose<perm = [0, 3, 1, 2]>(b) }"""
NORMALIZED = """(float[1,2,3,4] x) => (float[1,2,3,4] y) <float[2] w = {1, 2}>
  { a = Transpose<perm = [0, 2, 3, 1]>(x) b = LayerNormalization(a, w) y = Transpose<perm = [0, 3, 1, 2]>(b) }"""
GROUPS = """(float[1,4,3,3] x) => (float[1,4,3,3] y)
  <int64[3] merged = {0, 2, -1}, int64[4] whole = {1, 4, 3, 3}, float[2] one = {1, 1}, float[2] zero = {0, 0}>
  { a = Reshape(x, merged) b = InstanceNormalization(a, one, zero) y = Reshape(b, whole) }"""
MEAN_OF_ROWS = "(float[1,2,3,3] x) => (float[1,2,3,1] y) { y = ReduceMean<axes = [3]>(x) }"
BRANCHES = """(float[1,1,8,8] x) => (float[1,1,8,8] y)
  <float[1,1,3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[1,1,1,1] v = {2}>
  { a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Conv(x, v) c = Add(a, b) y = Add(c, x) }"""
SPLIT = "{ a = Conv(x, w) b, c = Split<axis = 1>(a, sizes) y = Concat<axis = 1>(c, b) }"
SLICE = """(float[4,2] x, float[2,2] v) => (float[4,2] y) <int64[2,1] i = {1, 2}>
  { y = ScatterND(x, i, v) }"""
BACK_AND_FORTH = """(float[1,8,12,3] x) => (float[1,8,12,3] y)
  { a = Transpose<perm = [0, 3, 1, 2]>(x) b = Transpose<perm = [0, 2, 3, 1]>(a) y = Neg(b) }"""
MASK = """(float[2,3] x) => (float[2,3] y) <int64[3] split = {1, 2, 3}, float[1,2,1] m = {1, 2}, int64[2] back = {2, 3}>
  { a = Reshape(x, split) b = Add(a, m) y = Reshape(b, back) }"""
TWO_MASKS = "(float[2] x) => (float[2] y) <float[2] m = {1, 2}> { a = Add(x, m) y = Add(a, m) }"
NORM = """(float[2,3] x) => (float[2,3] y) <int64[2] shape = {2, 3}>
  { n = ReduceL2<axes = [1]>(x) e = Expand(n, shape) y = Div(x, e) }"""
COLUMNS = """(float[2,2] x) => (float[2,1] y) <float[2,2] w = {1, 2, 3, 4}, int64[1] zero = {0}, int64[1] one = {1},
  int64[1] two = {2}> { p = MatMul(x, w) a = Slice(p, zero, one, one) b = Slice(p, one, two, one) y = Mul(a, b) }"""
FACTOR = """(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}, float f = {3}>
  { p = MatMul(x, w) s = Mul(p, f) y = Neg(s) }"""
PLAIN = graph(f"{CONV} {{ y = Conv(x, w) }}")

PASSES = {
    "assignment_as_selection": PassCase(assignment_as_selection, graph(ASSIGNMENT), (assignment_as_selection, PLAIN)),
    "merge_axes": PassCase(merge_axes, graph(WINDOWS), (merge_axes, PLAIN)),
    "move_once": PassCase(move_once, graph(BACK_AND_FORTH), (move_once, PLAIN)),
    "constants_without_reshape": PassCase(constants_without_reshape, graph(MASK), (constants_without_reshape, PLAIN)),
    "sums_of_constants": PassCase(sums_of_constants, graph(TWO_MASKS), (sums_of_constants, PLAIN)),
    "broadcast_without_expand": PassCase(broadcast_without_expand, graph(NORM), (broadcast_without_expand, PLAIN)),
    "products_of_columns": PassCase(products_of_columns, graph(COLUMNS), (products_of_columns, PLAIN)),
    "factors_in_weights": PassCase(factors_in_weights, graph(FACTOR), (factors_in_weights, PLAIN)),
    "einsum_as_product": PassCase(
        einsum_as_product,
        graph('(float[2,3] x) => (float[2,2] y) { y = Einsum<equation = "ij,kj->ik">(x, x) }'),
        (einsum_as_product, graph('(float[3,3] x) => (float[3] y) { y = Einsum<equation = "ii->i">(x) }')),
    ),
    "cumulative_sum_as_product": PassCase(
        cumulative_sum_as_product,
        graph("(float[2,3] x) => (float[2,3] y) <int64[1] axis = {1}> { y = CumSum(x, axis) }"),
        (cumulative_sum_as_product, PLAIN),
    ),
    "fourier_as_product": PassCase(
        fourier_as_product,
        graph("(float[1,8,1] x) => (float[1,8,2] y) { y = DFT<axis = 1>(x) }"),
        (fourier_as_product, PLAIN),
    ),
    "rearranged_pixels": PassCase(rearranged_pixels, graph(SHUFFLE), (rearranged_pixels, graph(WINDOWS))),
    "prelu_as_minimum": PassCase(
        prelu_as_minimum,
        graph("(float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,1,1] s = {0.5, 2}> { y = PRelu(x, s) }"),
        (prelu_as_minimum, PLAIN),
    ),
    "mish_as_sigmoid": PassCase(
        mish_as_sigmoid,
        graph("(float[2] x) => (float[2] y) { a = Softplus(x) b = Tanh(a) y = Mul(x, b) }"),
        (mish_as_sigmoid, graph("(float[2] x) => (float[2] y) { a = Softplus(x) y = Mul(x, a) }")),
    ),
    "group_norm_without_reshape": PassCase(
        group_norm_without_reshape, graph(GROUPS), (group_norm_without_reshape, graph(NORMALIZED))
    ),
    "channel_first_products": PassCase(
        channel_first_products, graph(CHANNELS_LAST), (channel_first_products, graph(NORMALIZED))
    ),
    "channel_first": PassCase(channel_first, graph(NORMALIZED), (channel_first, PLAIN)),
    "channel_means_as_convolutions": PassCase(
        channel_means_as_convolutions,
        graph("(float[1,2,3,3] x) => (float[1,1,3,3] y) { y = ReduceMean<axes = [1]>(x) }"),
        (channel_means_as_convolutions, graph(MEAN_OF_ROWS)),
    ),
    "movement_merged": PassCase(
        movement_merged,
        graph("(float[2,3] x) => (float[2,3] y) { a = Transpose(x) b = Transpose(a) y = Neg(b) }"),
        (movement_merged, PLAIN),
    ),
    "assignment_as_concat": PassCase(assignment_as_concat, graph(SLICE), (assignment_as_concat, PLAIN)),
    "split_outputs": PassCase(
        split_outputs,
        graph(f"{CONV[:-1]}, int64[2] sizes = {{1, 2}}> {SPLIT}"),
        (split_outputs, PLAIN),
    ),
    "lower_opset": PassCase(
        lower_opset,
        graph("(float[2,3] x) => (float[2,1] y) <int64[1] axes = {1}> { y = ReduceMean(x, axes) }", opset=18),
        (lower_opset, PLAIN),
    ),
    "fold_linear_layers": PassCase(fold_linear_layers, graph(BRANCHES), (fold_linear_layers, PLAIN)),
    "simplify": PassCase(
        simplify, graph(f"{CONV} {FOLDABLE}"), (simplify, graph(f"{CONV} {{ [conv] y = Conv(x, w) }}"))
    ),
    "to_fp16": PassCase(
        to_fp16,
        graph(f"{CONV} {{ y = Conv(x, w) }}"),
        (to_fp16, graph("(float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Softmax<axis = 1>(x) }")),
        second_run=ExportError,
    ),
    "wrap_uint8": PassCase(wrap_uint8, graph(f"{CONV} {{ y = Conv(x, w) }}"), None, second_run=ExportError),
    "wrap_nv12": PassCase(
        partial(wrap_nv12, colour=Nv12Colour.BT709_LIMITED),
        graph(f"{CONV} {{ y = Conv(x, w) }}"),
        None,
        second_run=ExportError,
    ),
    "insert_qdq": PassCase(
        partial(insert_qdq, calibration=calibration(True), activation_type=ActivationType.INT8),
        graph(f"{CONV} {{ y = Conv(x, w) }}"),
        (
            partial(insert_qdq, calibration=calibration(False), activation_type=ActivationType.INT8),
            graph(f"{CONV} {{ y = Conv(x, w) }}"),
        ),
        second_run=CalibrationError,
    ),
    "raise_opset": PassCase(
        partial(raise_opset, oldest=13),
        graph(f"{CONV} {{ y = Conv(x, w) }}", opset=11),
        (partial(raise_opset, oldest=13), graph(f"{CONV} {{ y = Conv(x, w) }}")),
    ),
    "bypass_identities": PassCase(
        bypass_identities, graph(f"{CONV} {SHARED}"), (bypass_identities, graph(f"{CONV} {{ y = Identity(x) }}"))
    ),
    "name_nodes": PassCase(
        name_nodes,
        graph(f"{CONV} {{ y = Conv(x, w) }}"),
        (name_nodes, graph("(float[2] x) => (float[2] y) { [negation] y = Neg(x) }")),
    ),
    "drop_unused_constants": PassCase(
        drop_unused_constants,
        graph(f"{CONV} {UNUSED}"),
        (drop_unused_constants, graph(f"{CONV} {{ y = Conv(x, w) }}")),
    ),
}


@pytest.fixture(params=list(PASSES.values()), ids=list(PASSES))
def case(request: pytest.FixtureRequest) -> PassCase:
    pass_case: PassCase = request.param
    return pass_case


def serialized(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def public_passes() -> Iterator[str]:
    """The public functions of the package that are annotated as passes."""
    for path in Path(sr_edge.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) == "PassResult":
                yield from [] if node.name.startswith("_") else [node.name]


def test_every_pass_of_the_package_is_tested_here() -> None:
    assert sorted(public_passes()) == sorted(PASSES)


def test_the_input_is_not_modified(case: PassCase) -> None:
    before = serialized(case.model)
    result = case.run(case.model)
    assert result.changed
    assert result.reason
    assert serialized(case.model) == before
    assert serialized(result.model) != before
    onnx.checker.check_model(result.model, full_check=True)


def test_a_pass_that_finds_nothing_to_do_returns_its_input_and_says_why(case: PassCase) -> None:
    if case.idle is None:
        pytest.skip("it always changes the graph")
    run, model = case.idle
    before = serialized(model)
    result = run(model)
    assert not result.changed
    assert result.reason
    assert result.model is model
    assert serialized(model) == before
    assert graph_digest(result.model) == graph_digest(model)


def test_a_second_run_changes_nothing_or_is_refused(case: PassCase) -> None:
    first = case.run(case.model).model
    if case.second_run is not None:
        with pytest.raises(case.second_run):
            case.run(first)
        return
    second = case.run(first)
    assert not second.changed
    assert second.model is first


def test_constants_that_a_subgraph_reads_stay() -> None:
    """Subgraphs of If, Loop and Scan read tensors of the graph around them without listing them as inputs."""
    text = """(float[2] x, bool cond) => (float[2] y) <float[2] k = {1, 2}> {
      shared = Identity(k)
      y = If(cond) <then_branch = a () => (float[2] p) { p = Neg(shared) },
                    else_branch = b () => (float[2] q) { q = Abs(k) }>
    }"""
    model = graph(text)
    assert not bypass_identities(model).changed
    assert not drop_unused_constants(model).changed

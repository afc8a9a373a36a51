from __future__ import annotations

import onnx
import pytest

from sr_edge.export.graph.digest import graph_digest

TWO_CONVS = """g (float[1,1,4,4] a) => (float[1,1,2,2] y)
<float[1,1,2,2] w = {1, 2, 3, 4}, float[1] b = {0.5}, int64[1] axes = {0}>
{ p = Conv(a, w, b) q = Relu(p) y = Conv<kernel_shape = [2, 2]>(q, w) }"""


def digest(text: str, weights: bool = True) -> str:
    return graph_digest(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), weights)


def test_names_and_unused_constants_do_not_count() -> None:
    renamed = """other (float[1,1,4,4] image) => (float[1,1,2,2] out)
    <float[1,1,2,2] weight = {1, 2, 3, 4}, float[1] bias = {0.5}, int64[1] unused = {7}>
    { one = Conv(image, weight, bias) two = Relu(one) out = Conv<kernel_shape = [2, 2]>(two, weight) }"""
    assert digest(renamed) == digest(TWO_CONVS)


def test_node_order_does_not_count() -> None:
    left = "g (float[2] a) => (float[2] y) { b = Neg(a) c = Abs(a) y = Add(b, c) }"
    right = "g (float[2] a) => (float[2] y) { c = Abs(a) b = Neg(a) y = Add(b, c) }"
    assert digest(left) == digest(right)


def test_a_constant_node_is_an_initialiser() -> None:
    node = "g (float[2] a) => (float[2] y) { c = Constant<value = float[2] {1, 2}>() y = Add(a, c) }"
    initialiser = "g (float[2] a) => (float[2] y) <float[2] c = {1, 2}> { y = Add(a, c) }"
    assert digest(node) == digest(initialiser)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{1, 2, 3, 4}", "{1, 2, 3, 5}"),
        ("Relu(p)", "Abs(p)"),
        ("kernel_shape = [2, 2]", 'auto_pad = "VALID"'),
        ("float[1,1,4,4] a", "float[1,1,4,5] a"),
        ("Conv(a, w, b)", "Conv(a, w)"),
    ],
)
def test_every_change_of_the_computation_counts(before: str, after: str) -> None:
    changed = TWO_CONVS.replace(before, after).replace(
        "float[1,1,2,2] y", "float[1,1,2,n] y" if "4,5" in after else "float[1,1,2,2] y"
    )
    assert changed != TWO_CONVS
    assert digest(changed) != digest(TWO_CONVS)


def test_computing_a_thing_twice_counts() -> None:
    once = "g (float[2] a) => (float[2] y) { b = Neg(a) y = Add(b, b) }"
    twice = "g (float[2] a) => (float[2] y) { b = Neg(a) c = Neg(a) y = Add(b, c) }"
    assert digest(once) != digest(twice)


def test_without_weights_only_their_shape_counts() -> None:
    other = TWO_CONVS.replace("{1, 2, 3, 4}", "{1, 2, 3, 5}")
    assert digest(other, weights=False) == digest(TWO_CONVS, weights=False)
    scalar = TWO_CONVS.replace("{0.5}", "{0.25}")
    assert digest(scalar, weights=False) != digest(TWO_CONVS, weights=False)

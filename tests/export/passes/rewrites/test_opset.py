"""Graphs of newer opsets are converted to opset 17 with the same outputs, or refused by the name of the operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import default_opset
from sr_edge.export.passes.rewrites.opset import OPSET, lower_opset
from tests.expected_errors import raises
from tests.export.passes.rewrites.equal_graphs import (
    NOTHING,
    Values,
    model_of,
    one_node,
    operators_of,
    outputs_of,
    require_equal,
    require_equal_in_onnxruntime,
)

EXACT = 1e-12
IN_FLOAT32 = ("Gelu", "GroupNormalization")
"""Operators whose definition in onnx has float32 constants."""

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.standard_normal((1, 4, 6, 7))
GRID = GENERATOR.uniform(-1.0, 1.0, (1, 3, 5, 2))


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
CASES: dict[str, tuple[str, int, Values, Values, dict[str, Any]]] = {
    **{f"Reduce{name}": (f"Reduce{name}", 18, {"x": abs(IMAGE)}, {"axes": integers(1, -1)}, {}) for name in REDUCTIONS},
    "all axes": ("ReduceMean", 18, {"x": IMAGE}, NOTHING, {"keepdims": 0}),
    "no axes": ("ReduceMean", 18, {"x": IMAGE}, NOTHING, {"noop_with_empty_axes": 1}),
    "Pad of some axes": ("Pad", 18, {"x": IMAGE},
                         {"pads": integers(1, 2, 3, 0), "v": np.array(5.0), "axes": integers(-1, 1)}, {}),
    "Pad": ("Pad", 21, {"x": IMAGE}, {"pads": integers(0, 0, 1, 2, 0, 0, 1, 1)}, {"mode": "reflect"}),
    "Resize": ("Resize", 18, {"x": IMAGE}, {"roi": np.zeros(0), "scales": np.array([1, 1, 2, 2], np.float32)},
               {"mode": "linear", "antialias": 0, "keep_aspect_ratio_policy": "stretch"}),
    "Resize of some axes": ("Resize", 19, {"x": IMAGE}, {"roi": np.zeros(0), "scales": np.array([2, 3], np.float32)},
                            {"axes": [2, 3], "mode": "nearest"}),
    "AveragePool": ("AveragePool", 19, {"x": IMAGE}, NOTHING, {"kernel_shape": [2, 2], "dilations": [1, 1]}),
    "Cast": ("Cast", 19, {"x": IMAGE}, NOTHING, {"to": onnx.TensorProto.FLOAT, "saturate": 1}),
    "DFT": ("DFT", 20, {"x": IMAGE[..., None]}, {"length": np.array(6, np.int64), "axis": np.array(-3, np.int64)}, {}),
    "DFT of the default axis": ("DFT", 20, {"x": IMAGE[..., None]}, NOTHING, {}),
    "Gelu": ("Gelu", 20, {"x": IMAGE}, NOTHING, {}),
    "Gelu by tanh": ("Gelu", 20, {"x": IMAGE}, NOTHING, {"approximate": "tanh"}),
    "Mish": ("Mish", 22, {"x": IMAGE}, NOTHING, {}),
    "Swish": ("Swish", 24, {"x": IMAGE}, NOTHING, {"alpha": 1.5}),
    "GroupNormalization": ("GroupNormalization", 21, {"x": IMAGE},
                           {"scale": IMAGE[0, :, 0, 0], "bias": IMAGE[0, :, 1, 0]}, {"num_groups": 2}),
    "GroupNormalization by groups": ("GroupNormalization", 18, {"x": IMAGE, "scale": IMAGE[0, :2, 0, 0]},
                                     {"bias": IMAGE[0, :2, 1, 0]}, {"num_groups": 2, "epsilon": 0.1}),
    "RMSNormalization": ("RMSNormalization", 23, {"x": IMAGE}, {"scale": IMAGE[0, 0, 0]}, {"axis": -1}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "opset", "inputs", "constants", "attributes"), list(CASES.values()), ids=list(CASES)
)
def test_the_outputs_stay(
    operator: str, opset: int, inputs: Values, constants: Values, attributes: dict[str, Any]
) -> None:
    model = one_node(operator, inputs, constants, opset, **attributes)
    result = lower_opset(model)
    require_equal(result, model, inputs, 1e-6 if operator in IN_FLOAT32 else EXACT)
    assert default_opset(result.model) == OPSET
    assert result.model.ir_version <= 8
    assert not lower_opset(result.model).changed


@pytest.mark.parametrize("size", [6, 7])
def test_a_split_into_a_number_of_parts(size: int) -> None:
    inputs = {"x": GENERATOR.standard_normal((2, size))}
    node = onnx.helper.make_node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2)
    model = model_of([node], inputs, NOTHING, 18, outputs=("y", "z"))
    require_equal(lower_opset(model), model, inputs)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str) -> None:
    inputs = {"x": IMAGE.astype(np.float32), "grid": GRID.astype(np.float32)}
    model = one_node("GridSample", inputs, NOTHING, 20, mode=mode)
    require_equal_in_onnxruntime(lower_opset(model), model, inputs)


FOLDS = {
    "tiling": ([6, 8], [3, 2], {"strides": [3, 2]}, {"Reshape", "Transpose"}),
    "overlapping": ([6, 8], [3, 3], {"strides": [1, 1]}, {"Reshape", "ConvTranspose"}),
    "padded": ([6, 8], [3, 3], {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"Reshape", "ConvTranspose"}),
    "dilated": ([7, 8], [2, 3], {"dilations": [3, 2]}, {"Reshape", "ConvTranspose"}),
    "uneven": ([8, 9], [3, 2], {"strides": [3, 2], "pads": [1, 0, 1, 1]}, {"Reshape", "ConvTranspose"}),
    "large blocks": ([24, 28], [16, 20], {"strides": [8, 8]}, {"Reshape", "Transpose", "MatMul"}),
    "large dilated blocks": ([30, 34], [12, 14], {"strides": [5, 6], "dilations": [2, 2], "pads": [1, 2, 1, 1]}, None),
}


@pytest.mark.parametrize(("image", "block", "attributes", "operators"), list(FOLDS.values()), ids=list(FOLDS))
def test_folds(image: list[int], block: list[int], attributes: dict[str, Any], operators: set[str] | None) -> None:
    """torch.nn.functional.fold, which exporters write as Col2Im."""
    defaults = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]} | attributes
    counts = [
        (image[at] + defaults["pads"][at] + defaults["pads"][at + 2] - defaults["dilations"][at] * (block[at] - 1) - 1)
        // defaults["strides"][at]
        + 1
        for at in (0, 1)
    ]
    inputs = {"x": GENERATOR.standard_normal((2, 3 * int(np.prod(block)), int(np.prod(counts))))}
    model = one_node("Col2Im", inputs, {"image": integers(*image), "block": integers(*block)}, 18, **attributes)
    result = lower_opset(model)
    if "ConvTranspose" in operators_of(result.model):
        narrow = {"x": inputs["x"].astype(np.float32)}
        model = one_node("Col2Im", narrow, {"image": integers(*image), "block": integers(*block)}, 18, **attributes)
        require_equal_in_onnxruntime(lower_opset(model), model, narrow)
    else:
        require_equal(result, model, inputs, EXACT)
    assert operators is None or operators_of(result.model) == operators


REFUSED: dict[str, tuple[str, int, Values, Values, dict[str, Any]]] = {
    "BitwiseNot": ("BitwiseNot", 18, {"x": integers(1, 2)}, NOTHING, {}),
    "Resize": ("Resize", 18, {"x": IMAGE}, {"roi": np.zeros(0), "s": np.array([1, 1, 0.5, 0.5], np.float32)},
               {"mode": "linear", "antialias": 1}),
    "ReduceMean": ("ReduceMean", 18, {"x": IMAGE, "axes": integers(1)}, NOTHING, {}),
    "AveragePool": ("AveragePool", 19, {"x": IMAGE}, NOTHING, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "Pad": ("Pad", 19, {"x": IMAGE}, {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1)}, {"mode": "wrap"}),
}  # fmt: skip


@pytest.mark.parametrize("operator", list(REFUSED))
def test_what_opset_17_lacks_is_refused_by_name(operator: str) -> None:
    _, opset, inputs, constants, attributes = REFUSED[operator]
    with raises(ExportError, found=operator, wanted=OPSET):
        lower_opset(one_node(operator, inputs, constants, opset, **attributes))


def test_a_subgraph_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[2] x, bool c) => (float[2] y) {
      y = If(c) <then_branch = a () => (float[2] p) { p = Neg(x) }, else_branch = b () => (float[2] q) { q = Abs(x) }>
    }"""
    with raises(ExportError, found="If"):
        lower_opset(onnx.parser.parse_model(text))


def test_notes_of_the_exporter_are_removed() -> None:
    """They name files of the machine that exported the network, and differ from run to run."""
    model = one_node("Gelu", {"x": IMAGE}, opset=20)
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/someone/net.py")
    model.graph.node[0].doc_string = "File /home/someone/net.py"
    assert b"someone" not in lower_opset(model).model.SerializeToString()
    assert outputs_of(model, {"x": IMAGE})

"""A block of window attention after all passes: the same function, fused by OpenVINO and built by TensorRT for RTX."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.export.passes.speed_passes import SPEED_PASSES
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import Precision
from tests.export.passes.attention.window_graphs import (
    ATTENTION_PASSES,
    Block,
    GraphBuilder,
    all_passes,
    count,
    mask_of,
    swin_block,
)
from tests.export.passes.rewrites.equal_graphs import outputs_of
from tests.runtimes.here import require_compiler


def random_block(seed: int) -> Block:
    choose = random.Random(seed)
    window = choose.choice((2, 4, 6))
    return Block(
        height=window * choose.randint(1, 3),
        width=window * choose.randint(1, 4),
        window=window,
        shift=choose.choice((0, window // 2, 1)),
        heads=choose.randint(1, 3),
        channels=choose.choice((4, 5, 8)),
    )


@pytest.mark.parametrize("seed", range(10))
def test_random_blocks_compute_the_same(seed: int) -> None:
    block = random_block(seed)
    model = swin_block(block)
    changed = all_passes(model)
    onnx.checker.check_model(changed, full_check=True)
    np.testing.assert_allclose(outputs_of(changed, block.inputs())[0], outputs_of(model, block.inputs())[0], atol=1e-12)
    assert not any(attention_pass(changed).changed for attention_pass in ATTENTION_PASSES)


def test_a_shifted_block_moves_its_elements_six_times() -> None:
    """Into windows and back, and the heads of queries, keys, values and results."""
    changed = all_passes(swin_block(Block()))
    assert count(changed, "Slice", "Concat", "Split", "Mul") == 0
    assert (count(changed, "Gather"), count(changed, "Transpose")) == (2, 4)
    assert [len(node.input) for node in changed.graph.node if node.op_type == "Gemm"] == [3, 3, 3, 3]


def test_a_block_without_shift_needs_no_gather() -> None:
    changed = all_passes(swin_block(Block(shift=0)))
    assert (count(changed, "Gather", "Slice", "Concat"), count(changed, "Transpose")) == (0, 6)


def test_blocks_that_share_their_weights_compute_the_same() -> None:
    block = Block()
    builder = GraphBuilder(block)
    builder.whole("x", "middle")
    nodes, first = len(builder.nodes), list(builder.nodes)
    names = {name: f"{name} again" for node in first for name in node.output} | {"x": "middle", "middle": "y"}
    for node in first:
        again = onnx.NodeProto()
        again.CopyFrom(node)
        again.name = f"{node.name} again"
        again.input[:] = [names.get(name, name) for name in node.input]
        again.output[:] = [names[name] for name in node.output]
        builder.nodes.append(again)
    model = builder.model()
    changed = all_passes(model)
    assert len(changed.graph.node) < 2 * nodes
    np.testing.assert_allclose(outputs_of(changed, block.inputs())[0], outputs_of(model, block.inputs())[0], atol=1e-12)


@pytest.mark.parametrize("tensor", ["scores", "biased", "masked", "weights"])
def test_tensors_in_the_middle_that_are_outputs_stay_equal(tensor: str) -> None:
    block = Block()
    model = swin_block(block, outputs=("y", tensor))
    changed = all_passes(model)
    for actual, expected in zip(outputs_of(changed, block.inputs()), outputs_of(model, block.inputs()), strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_names_with_odd_characters_are_kept() -> None:
    block = Block()
    builder = GraphBuilder(block, prefix="/größe:0 \N{SNOWMAN}/")
    builder.whole("x", "y")
    model = builder.model()
    changed = all_passes(model)
    assert [value.name for value in changed.graph.output] == ["y"]
    np.testing.assert_allclose(outputs_of(changed, block.inputs())[0], outputs_of(model, block.inputs())[0], atol=1e-12)


def test_a_mask_that_is_computed_stays_where_it_is() -> None:
    block = Block()
    model = swin_block(block)
    masked = next(node for node in model.graph.node if node.output[0] == "masked")
    constant = masked.input[1]
    masked.input[1] = "computed"
    at = list(model.graph.node).index(masked)
    model.graph.node.insert(at, onnx.helper.make_node("Relu", [constant], ["computed"]))
    before = outputs_of(model, block.inputs())[0]
    changed = all_passes(model)
    assert any(node.op_type == "Reshape" and "masked" in node.input for node in changed.graph.node)
    np.testing.assert_allclose(outputs_of(changed, block.inputs())[0], before, atol=1e-12)


def test_openvino_fuses_the_attention_of_shifted_windows(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    block = Block(16, 16, 8, 4, 2, 16, np.float32)
    model = swin_block(block)
    layers = {}
    for name, graph in (("plain", model), ("changed", all_passes(model))):
        onnx.save(graph, tmp_path / f"{name}.onnx")
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(tmp_path / f"{name}.onnx", "CPU", settings)
        operators = compiled.get_runtime_model().get_ordered_ops()
        layers[name] = {operator.get_rt_info()["layerType"].astype(str) for operator in operators}
    assert "Softmax" in layers["plain"]
    assert not {"Softmax", "MatMul"} & layers["changed"]


def test_the_passes_are_registered_in_this_order() -> None:
    names = [getattr(graph_pass, "func", graph_pass) for graph_pass in ATTENTION_PASSES]
    registered = [getattr(speed_pass.apply, "func", speed_pass.apply) for speed_pass in SPEED_PASSES]
    assert [graph_pass for graph_pass in registered if graph_pass in names] == names


def test_tensorrt_for_rtx_parses_attention_without_anything_in_between(tmp_path: Path) -> None:
    """Two matrix products with nothing but sums of constants and a softmax between them, which TensorRT fuses."""
    require_compiler()
    library: Any = pytest.importorskip("tensorrt_rtx")
    onnx.save(all_passes(swin_block(Block(dtype=np.float32))), tmp_path / "model.onnx")
    log = library.Logger(library.Logger.ERROR)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    assert parser.parse_from_file(str(tmp_path / "model.onnx"))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producer = {layer.get_output(0).name: layer for layer in layers}
    (softmax,) = (layer for layer in layers if layer.type == library.LayerType.SOFTMAX)
    assert [layer.type for layer in layers if reads(layer, "weights")] == [library.LayerType.MATRIX_MULTIPLY]
    chain = [producer[softmax.get_input(0).name]]
    while chain[-1].type == library.LayerType.ELEMENTWISE:
        chain.append(producer[chain[-1].get_input(0).name])
    assert [layer.type for layer in chain] == [
        library.LayerType.ELEMENTWISE,
        library.LayerType.ELEMENTWISE,
        library.LayerType.MATRIX_MULTIPLY,
    ]


def reads(layer: Any, tensor: str) -> bool:
    return any(layer.get_input(at) is not None and layer.get_input(at).name == tensor for at in range(layer.num_inputs))


def test_tensorrt_for_rtx_builds_a_block(tmp_path: Path) -> None:
    rtx, precision = require_compiler(), Precision.FP32
    onnx.save(all_passes(swin_block(Block(16, 16, 8, 4, 2, 16, np.float32))), tmp_path / "model.onnx")
    build_engine(rtx, tmp_path / "model.onnx", BuildOptions(precision, precision, compute_capability="8.6"))


def test_masks_separate_regions() -> None:
    """The graphs of these tests have a mask that does something."""
    mask = mask_of(Block())
    assert mask is not None
    assert mask.shape == (1, 4, 1, 16, 16)
    assert {0.0, -100.0} == set(np.unique(mask))

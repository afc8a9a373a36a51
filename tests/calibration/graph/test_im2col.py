"""The product of the unfolded input and the weight matrix is the output of the layer at every position."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from tests.calibration.graphs import of_nodes, random_weight


def one_layer(op_type: str, weight: tuple[int, ...], x: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x", "w"], ["y"], name="layer", **attributes)
    return of_nodes([node], {"w": random_weight(*weight)}, x)


LAYERS = {
    "conv": one_layer("Conv", (6, 4, 3, 3), (1, 4, 9, 11), pads=[1, 1, 1, 1]),
    "strided": one_layer("Conv", (6, 4, 3, 5), (1, 4, 9, 11), pads=[0, 2, 1, 1], strides=[2, 3]),
    "dilated": one_layer("Conv", (6, 4, 3, 3), (1, 4, 9, 11), dilations=[2, 1], pads=[2, 0, 2, 1]),
    "grouped": one_layer("Conv", (6, 2, 3, 3), (1, 4, 9, 11), group=2, pads=[1, 1, 1, 1]),
    "depthwise": one_layer("Conv", (4, 1, 3, 3), (1, 4, 9, 11), group=4, pads=[1, 1, 1, 1]),
    "same-upper": one_layer("Conv", (6, 4, 4, 4), (1, 4, 9, 11), auto_pad="SAME_UPPER", strides=[2, 2]),
    "same-lower": one_layer("Conv", (6, 4, 4, 4), (1, 4, 9, 11), auto_pad="SAME_LOWER", strides=[2, 2]),
    "valid": one_layer("Conv", (6, 4, 3, 3), (1, 4, 9, 11), auto_pad="VALID"),
    "transposed": one_layer("ConvTranspose", (4, 6, 4, 4), (1, 4, 9, 11), strides=[2, 2], pads=[1, 1, 1, 1]),
    "transposed-grouped": one_layer(
        "ConvTranspose", (4, 3, 3, 2), (1, 4, 9, 11), group=2, strides=[2, 1], pads=[1, 0, 0, 1], output_padding=[1, 0]
    ),
    "transposed-dilated": one_layer("ConvTranspose", (4, 6, 3, 3), (1, 4, 9, 11), dilations=[2, 1], strides=[2, 2]),
    "matmul": one_layer("MatMul", (4, 6), (1, 5, 7, 4)),
    "gemm": one_layer("Gemm", (4, 6), (7, 4)),
    "gemm-transposed": one_layer("Gemm", (6, 4), (7, 4), transB=1),
}


def outputs_by_position(layer: Layer, y: Float32Array) -> Float32Array:
    """(positions, groups x outputs per group) The output of the layer."""
    return y[0].reshape(y.shape[1], -1).T if layer.is_spatial else y.reshape(-1, y.shape[-1])


@pytest.mark.parametrize("name", LAYERS)
def test_every_sampled_product_is_an_output_of_the_layer_and_all_outputs_are_met(name: str) -> None:
    model = LAYERS[name]
    (layer,) = quantizable_layers(model).values()
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    columns = layer.sample(x, 4000, np.random.default_rng(2))
    product = np.matmul(columns, layer.matrix(layer.weight))
    outputs = product.transpose(1, 0, 2).reshape(4000, layer.output_channels)
    expected = outputs_by_position(layer, run(model, x))
    distances = np.abs(outputs[:, np.newaxis, :2] - expected[np.newaxis, :, :2]).max(axis=2)
    nearest = distances.argmin(axis=1)
    np.testing.assert_allclose(outputs, expected[nearest], atol=1e-4)
    assert distances.min(axis=0).max() < 1e-4


def run(model: onnx.ModelProto, x: Float32Array) -> Float32Array:
    return np.asarray(run_onnxruntime(model, {"x": x})["y"])


@pytest.mark.parametrize("name", LAYERS)
def test_a_smoothed_weight_undoes_the_division_of_the_input(name: str) -> None:
    model = LAYERS[name]
    (layer,) = quantizable_layers(model).values()
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    generator = np.random.default_rng(3)
    x = generator.standard_normal(shape).astype(np.float32)
    smoothing = generator.uniform(0.3, 3.0, layer.input_channels).astype(np.float32)
    divided = x / (smoothing.reshape(1, -1, 1, 1) if layer.is_spatial else smoothing)
    smoothed = onnx.ModelProto()
    smoothed.CopyFrom(model)
    weight = layer.smoothed(layer.weight, smoothing)
    smoothed.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    np.testing.assert_allclose(run(smoothed, divided), run(model, x), atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_by_input_channel_are_those_that_read_it(name: str) -> None:
    (layer,) = quantizable_layers(LAYERS[name]).values()
    by_input = layer.weight_per_input()
    for channel in range(layer.input_channels):
        alone = np.zeros(layer.input_channels, np.float32)
        alone[channel] = 1.0
        read = layer.smoothed(layer.weight, alone)
        assert np.abs(read).max() == np.abs(by_input[channel]).max()

"""Builds small ONNX graphs, and defines types and constants that calibration tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.frames import Batch
from sr_edge.spec import TileSpec

TILE = TileSpec(24, 24)
Run = Callable[[onnx.ModelProto, Batch], Batch]
PsnrDb = Callable[[Batch, Batch], float]

AGREEMENT_DB = 50.0
"""The smallest PSNR between OpenVINO and the arithmetic that an INT8 graph defines."""


def parsed(
    body: str,
    constants: Mapping[str, npt.ArrayLike],
    picture: str = "float[1,3,24,24] x",
    output: str = "float[n,c,h,w] y",
    opset: int = 17,
) -> onnx.ModelProto:
    """Parses a graph in the text format of onnx.parser; the `constants` that it reads become initializers."""
    values = {name: np.asarray(value) for name, value in constants.items()}
    declarations = "".join(f", {_type_of(value)} {name}" for name, value in values.items())
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({picture}{declarations}) => ({output}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    del model.graph.input[1:]
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in values if name in used)
    return model


def _type_of(value: npt.NDArray[np.generic]) -> str:
    kind = "int64" if value.dtype.kind == "i" else "float"
    return f"{kind}[{','.join(map(str, value.shape))}]" if value.shape else kind


def of_nodes(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, Float32Array], shape: Sequence[int] = (1, 3, 24, 24)
) -> onnx.ModelProto:
    """A model of these nodes, from a float input `x` of that shape to the output `y`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def random_weight(*shape: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def photo_like(count: int, colours: int) -> list[Batch]:
    """24x24 patches of coloured waves with some noise, in [0, 1]."""
    rows, columns = np.indices((TILE.height, TILE.width), np.float32)
    generator = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        rate, phase = generator.uniform(0.1, 0.9, (2, 3, 1, 1))
        grain = generator.standard_normal((3, TILE.height, TILE.width))
        waves = 0.5 + 0.4 * np.sin(rate * rows + phase * columns + 6 * phase) + 0.05 * grain
        batches.append(np.clip(waves[np.newaxis, :colours], 0.0, 1.0).astype(np.float32))
    return batches


def with_input_range_255(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with an input range of 255; the tensors that its layers read keep their names."""
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    graph = scaled.graph
    picture, output = graph.input[0].name, graph.output[0].name
    graph.input[0].name = "picture_255"
    for node in graph.node:
        node.output[:] = ["unscaled" if name == output else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.float32(255.0), "input_range"))
    graph.node.insert(0, helper.make_node("Div", ["picture_255", "input_range"], [picture]))
    graph.node.append(helper.make_node("Mul", ["unscaled", "input_range"], [output]))
    return scaled

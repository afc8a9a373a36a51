"""Puts float32 NCHW frames in [0, 1], RGB, around a graph of any other format."""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.export.graph.view import graph_inputs
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat
from sr_edge.model_sources.onnx_file.ports import Layout
from sr_edge.model_sources.onnx_file.rewrites.names import rename_tensors, unused_prefix
from sr_edge.spec import TileSpec

INPUT, OUTPUT = "input", "output"

_FLOAT = onnx.TensorProto.FLOAT


def with_frames(
    model: onnx.ModelProto, source: PictureFormat, result: PictureFormat, tile: TileSpec, scale: int
) -> onnx.ModelProto:
    """A copy of `model` with one input `input` and one output `output`, both float32 NCHW in [0, 1], RGB, batch 1.

    Args:
        model: A float32 graph for one picture at a time; its other outputs are removed.
        source: How it takes the picture.
        result: How it returns the picture.
        tile: Height and width of the input.
        scale: Magnification.
    """
    framed = onnx.ModelProto()
    framed.CopyFrom(model)
    graph = framed.graph
    controls = [value for value in graph_inputs(model) if value.name != source.port.name]
    prefix, inner_prefix = unused_prefix(graph, "frames/"), unused_prefix(graph, "net/")
    inner = {name: f"{inner_prefix}{name}" for name in (INPUT, OUTPUT)}
    rename_tensors(graph, inner)
    first, last = (inner.get(picture.port.name, picture.port.name) for picture in (source, result))
    entry, exit_ = _Chain(f"{prefix}input", INPUT), _Chain(f"{prefix}output", last)
    _encode(entry, source)
    _decode(exit_, result)
    body = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*entry.ending_in(first), *body, *exit_.ending_in(OUTPUT)])
    graph.initializer.extend([*entry.constants, *exit_.constants])
    for field in ("input", "output", "value_info"):
        graph.ClearField(field)
    size = (1, source.port.channels, tile.height, tile.width)
    upscaled = (1, result.port.channels, scale * tile.height, scale * tile.width)
    graph.input.extend([onnx.helper.make_tensor_value_info(INPUT, _FLOAT, size), *controls])
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, _FLOAT, upscaled))
    return framed


class _Chain:
    """Nodes from one tensor to another."""

    def __init__(self, prefix: str, first: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix, self._tensor = prefix, first

    def add(self, operator: str, *constants: float | list[int], **attributes: int | list[int]) -> None:
        """Appends a node; a float constant is a scalar of float32, a list one of int64."""
        name = f"{self._prefix}/{len(self.nodes)}_{operator}"
        inputs = [self._tensor]
        for position, constant in enumerate(constants):
            values = np.array(constant, np.int64 if isinstance(constant, list) else np.float32)
            inputs.append(f"{name}/{position}")
            self.constants.append(onnx.numpy_helper.from_array(values, inputs[-1]))
        self._tensor = f"{name}/result"
        node = onnx.helper.make_node(operator, inputs, [self._tensor], name=name)
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)

    def ending_in(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes, the last of which computes `tensor`."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = tensor
        return self.nodes


def _encode(chain: _Chain, source: PictureFormat) -> None:
    _swap_channels(chain, source)
    if source.value_range != 1.0:
        chain.add("Mul", source.value_range)
    if source.port.layout is Layout.NHWC:
        chain.add("Transpose", perm=[0, 2, 3, 1])
    if source.port.dtype == "uint8":
        chain.add("Clip", 0.0, 255.0)
        chain.add("Round")
        chain.add("Cast", to=onnx.TensorProto.UINT8)


def _decode(chain: _Chain, result: PictureFormat) -> None:
    if result.port.dtype == "uint8":
        chain.add("Cast", to=_FLOAT)
    if result.port.layout is Layout.NHWC:
        chain.add("Transpose", perm=[0, 3, 1, 2])
    if result.value_range != 1.0:
        chain.add("Mul", 1.0 / result.value_range)
    _swap_channels(chain, result)


def _swap_channels(chain: _Chain, picture: PictureFormat) -> None:
    if picture.channel_order:
        chain.add("Gather", list(picture.channel_order), axis=1)

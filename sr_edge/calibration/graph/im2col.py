"""A layer as a matrix product (im2col): its unfolded input at sampled output positions, times its weight.

The output of a convolution at one position is the product of its weight with the input values under the kernel, as in
torch.nn.Unfold. The error of a quantized layer can therefore be measured on a few thousand sampled positions without
running the layer. `Layer.sample` and `Layer.matrix` give both factors for Conv, ConvTranspose, MatMul and Gemm, with
any stride, dilation, padding and number of groups. Padding is zero, which INT8 represents exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.biases import bias_of
from sr_edge.calibration.graph.candidates import QuantizableOp, find_quantizable_ops
from sr_edge.export.graph.view import GraphView, integer_attribute, integers_attribute, text_attribute, view_graph

IndexArray = npt.NDArray[np.intp]

_OUTSIDE = -1


@dataclass(frozen=True)
class Layer:
    """One quantizable operator with its weight, as it is in the file, and the attributes of its node."""

    op: QuantizableOp
    weight: Float32Array
    groups: int = 1
    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    auto_pad: str = "NOTSET"
    extra_rows: tuple[int, ...] = (0, 0)
    is_correctable: bool = True

    @property
    def is_spatial(self) -> bool:
        return self.op.op_type in ("Conv", "ConvTranspose")

    @property
    def padding(self) -> tuple[int, ...]:
        """Zero padding at the top, left, bottom and right; not for SAME_UPPER and SAME_LOWER."""
        return (0, 0, 0, 0) if self.auto_pad == "VALID" else self.pads

    @property
    def channel_axis(self) -> int:
        """The channel axis of the input."""
        return 1 if self.is_spatial else -1

    @property
    def input_channels(self) -> int:
        if self.op.op_type == "Conv":
            return int(self.weight.shape[1]) * self.groups
        return int(self.weight.shape[0 if self.op.channel_axis else 1])

    @property
    def output_channels(self) -> int:
        outputs = int(self.weight.shape[self.op.channel_axis])
        return outputs * self.groups if self.op.op_type == "ConvTranspose" else outputs

    def weight_per_input(self) -> Float32Array:
        """(input channels, outputs x taps) The weight with its input channels on the first axis."""
        return self.input_major(self.weight).reshape(self.input_channels, -1)

    def input_major(self, weight: Float32Array) -> Float32Array:
        """(groups, channels per group, outputs per group, taps) A weight of this layer, input channels first."""
        if self.op.op_type == "Conv":
            outputs, inputs = weight.shape[:2]
            by_group: Float32Array = weight.reshape(self.groups, outputs // self.groups, inputs, -1)
            return np.transpose(by_group, (0, 2, 1, 3))
        if self.op.op_type == "ConvTranspose":
            inputs, outputs = weight.shape[:2]
            return weight.reshape(self.groups, inputs // self.groups, outputs, -1)
        matrix = weight if self.op.channel_axis else weight.T
        return matrix[np.newaxis, :, :, np.newaxis]

    def matrix(self, weight: Float32Array) -> Float32Array:
        """(groups, channels x taps per group, outputs per group) The right factor of the matrix product."""
        groups, inputs, outputs, taps = (major := self.input_major(weight)).shape
        return np.ascontiguousarray(major.transpose(0, 1, 3, 2)).reshape(groups, inputs * taps, outputs)

    def smoothed(self, weight: Float32Array, smoothing: Float32Array) -> Float32Array:
        """The weight that compensates for dividing the input channels by `smoothing`."""
        if self.op.op_type == "Conv":
            outputs, inputs = weight.shape[:2]
            per_group = smoothing.reshape(self.groups, 1, inputs)
            per_output = np.repeat(per_group, outputs // self.groups, axis=1).reshape(outputs, inputs, 1, 1)
            return np.multiply(weight, per_output, dtype=np.float32)
        along = 0 if self.op.op_type == "ConvTranspose" or self.op.channel_axis else 1
        shape = [1] * weight.ndim
        shape[along] = -1
        return np.multiply(weight, smoothing.reshape(shape), dtype=np.float32)

    def sample(self, values: Float32Array, count: int, generator: np.random.Generator) -> Float32Array:
        """(groups, count, channels x taps) One unfolded input tensor at `count` random output positions."""
        if not self.is_spatial:
            rows = values.reshape(-1, values.shape[-1])
            return rows[generator.integers(len(rows), size=count)][np.newaxis]
        taps = [self._taps(axis, values.shape[2 + axis], count, generator) for axis in (0, 1)]
        return self._gather(values[0], taps[0], taps[1])

    def _gather(self, planes: Float32Array, y: IndexArray, x: IndexArray) -> Float32Array:
        windows = planes[:, y[:, :, np.newaxis], x[:, np.newaxis, :]]
        outside = (y == _OUTSIDE)[:, :, np.newaxis] | (x == _OUTSIDE)[:, np.newaxis, :]
        windows[:, outside] = 0.0
        channels, count = windows.shape[:2]
        by_group = windows.reshape(self.groups, channels // self.groups, count, -1).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(by_group).reshape(self.groups, count, -1)

    def _taps(self, axis: int, size: int, count: int, generator: np.random.Generator) -> IndexArray:
        """(count, kernel size) The input index that each kernel tap of each sampled output reads along one axis."""
        kernel = int(self.weight.shape[2 + axis])
        stride, dilation = self.strides[axis], self.dilations[axis]
        reach = dilation * (kernel - 1) + 1
        before, after = self._padding(axis, size, reach)
        offsets = dilation * np.arange(kernel)
        if self.op.op_type == "Conv":
            outputs = generator.integers(max(1, (size + before + after - reach) // stride + 1), size=count)
            indices = outputs[:, np.newaxis] * stride - before + offsets
            return np.where((indices >= 0) & (indices < size), indices, _OUTSIDE)
        output_size = stride * (size - 1) + self.extra_rows[axis] + reach - before - after
        outputs = generator.integers(max(1, output_size), size=count)
        steps = outputs[:, np.newaxis] + before - offsets
        hit = (steps % stride == 0) & (steps >= 0) & (steps < size * stride)
        return np.where(hit, steps // stride, _OUTSIDE)

    def _padding(self, axis: int, size: int, reach: int) -> tuple[int, int]:
        if self.auto_pad in ("NOTSET", "", "VALID"):
            return self.padding[axis], self.padding[len(self.padding) // 2 + axis]
        stride = self.strides[axis]
        if self.op.op_type == "Conv":
            missing = max(0, (-(-size // stride) - 1) * stride + reach - size)
        else:
            missing = max(0, reach + self.extra_rows[axis] - stride)
        larger, smaller = missing - missing // 2, missing // 2
        return (smaller, larger) if self.auto_pad == "SAME_UPPER" else (larger, smaller)


def quantizable_layers(model: onnx.ModelProto) -> dict[str, Layer]:
    """The layers that can be INT8, by node name, in graph order."""
    view = view_graph(model)
    at = {node.name: index for index, node in enumerate(view.nodes)}
    ops = [op for op in find_quantizable_ops(model) if not op.obstacle]
    return {op.node: _layer(view, at[op.node], op) for op in ops}


def _layer(view: GraphView, at: int, op: QuantizableOp) -> Layer:
    node, weight = view.nodes[at], view.constants[op.weight].astype(np.float32)
    is_correctable = bias_of(view, at) is not None
    if op.op_type not in ("Conv", "ConvTranspose"):
        return Layer(op, weight, is_correctable=is_correctable)
    return Layer(
        op,
        weight,
        integer_attribute(node, "group", 1),
        tuple(integers_attribute(node, "strides", (1, 1))),
        tuple(integers_attribute(node, "dilations", (1, 1))),
        tuple(integers_attribute(node, "pads", (0, 0, 0, 0))),
        text_attribute(node, "auto_pad", "NOTSET"),
        tuple(integers_attribute(node, "output_padding", (0, 0))),
        is_correctable,
    )

"""Graphs of one block of window attention, with the operators that torch's exporter and onnxsim write."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.export.passes.attention.broadcasting import broadcast_without_expand
from sr_edge.export.passes.attention.factors import factors_in_weights
from sr_edge.export.passes.attention.movement import move_once
from sr_edge.export.passes.attention.product_columns import products_of_columns
from sr_edge.export.passes.attention.score_constants import constants_without_reshape, sums_of_constants
from sr_edge.export.passes.pass_result import GraphPass
from sr_edge.export.passes.rewrites.merge_axes import merge_axes
from tests.export.passes.rewrites.equal_graphs import Values, model_of

Array = npt.NDArray[Any]

ATTENTION_PASSES: tuple[GraphPass, ...] = (
    constants_without_reshape,
    sums_of_constants,
    broadcast_without_expand,
    partial(merge_axes, max_axes=4),
    move_once,
    products_of_columns,
    factors_in_weights,
)
"""The passes for attention in the order of `SPEED_PASSES`."""


@dataclass(frozen=True)
class Block:
    """The sizes of a block: its input is (1, height * width, heads * channels)."""

    height: int = 8
    width: int = 8
    window: int = 4
    shift: int = 2
    heads: int = 2
    channels: int = 4
    dtype: type[np.floating[Any]] = np.float64

    @property
    def dim(self) -> int:
        return self.heads * self.channels

    @property
    def windows(self) -> int:
        return self.height * self.width // self.window**2

    @property
    def tokens(self) -> int:
        return self.window**2

    def inputs(self) -> Values:
        random = np.random.default_rng(7)
        return {"x": random.standard_normal((1, self.height * self.width, self.dim)).astype(self.dtype)}


@dataclass
class GraphBuilder:
    """Collects the nodes and constants of a block."""

    block: Block
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    prefix: str = ""

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{self.prefix}t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=f"{operator} {output}", **attributes))
        return output

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        name = f"{self.prefix}c{len(self.constants)}"
        self.constants[name] = array.astype(self.block.dtype) if array.dtype.kind == "f" else array.astype(np.int64)
        return name

    def reshape(self, tensor: str, *shape: int, output: str = "") -> str:
        return self.add("Reshape", [tensor, self.constant(list(shape))], output)

    def roll(self, image: str, shift: int) -> str:
        """torch.roll by `shift` along axes 1 and 2 of (1, height, width, channels)."""
        end = np.iinfo(np.int64).max
        for axis in (1, 2):
            bounds = ([-shift], [end]), ([0], [-shift])
            parts = [self.add("Slice", [image, *map(self.constant, (*part, [axis], [1]))]) for part in bounds]
            image = self.add("Concat", parts, axis=axis)
        return image

    def partition(self, image: str) -> str:
        block = self.block
        rows, columns = block.height // block.window, block.width // block.window
        x = self.reshape(image, rows, block.window, columns, block.window * block.dim)
        return self.reshape(self.add("Transpose", [x], perm=[0, 2, 1, 3]), block.windows * block.tokens, block.dim)

    def reverse(self, windows: str) -> str:
        block = self.block
        rows, columns = block.height // block.window, block.width // block.window
        x = self.reshape(windows, rows, columns, block.window, block.window * block.dim)
        return self.reshape(self.add("Transpose", [x], perm=[0, 2, 1, 3]), 1, block.height, block.width, block.dim)

    def linear(self, x: str, rows: int, columns: int) -> str:
        random = np.random.default_rng(len(self.nodes))
        weight = self.constant(random.standard_normal((rows, columns)) / np.sqrt(rows))
        return self.add("Gemm", [x, weight, self.constant(random.standard_normal(columns))])

    def attend(self, tokens: str, mask: Array | None) -> str:
        """Attention in windows of (windows * tokens, dim), with the mask in five axes as in Swin."""
        block = self.block
        projected = self.linear(tokens, block.dim, 3 * block.dim)
        parts = self.reshape(projected, block.windows, block.tokens, 3, block.heads, -1)
        moved = self.add("Transpose", [parts], perm=[2, 0, 3, 1, 4])
        q, k, v = (self.add("Gather", [moved, self.constant(part)], axis=0) for part in range(3))
        scaled = self.add("Mul", [q, self.constant(block.channels**-0.5)])
        scores = self.add("MatMul", [scaled, self.add("Transpose", [k], perm=[0, 1, 3, 2])], f"{self.prefix}scores")
        bias = np.random.default_rng(3).standard_normal((1, block.heads, block.tokens, block.tokens))
        scores = self.add("Add", [scores, self.constant(bias)], f"{self.prefix}biased")
        if mask is not None:
            scores = self.reshape(scores, 1, block.windows, block.heads, block.tokens, block.tokens)
            scores = self.add("Add", [scores, self.constant(mask)], f"{self.prefix}masked")
            scores = self.reshape(scores, -1, block.heads, block.tokens, block.tokens)
        weights = self.add("Softmax", [scores], f"{self.prefix}weights", axis=-1)
        heads = self.add("MatMul", [weights, v])
        joined = self.reshape(self.add("Transpose", [heads], perm=[0, 2, 1, 3]), -1, block.dim)
        return self.linear(joined, block.dim, block.dim)

    def whole(self, x: str, output: str) -> str:
        """A block with its residual connection."""
        block = self.block
        scale, bias = self.constant(np.linspace(0.5, 1.5, block.dim)), self.constant(np.linspace(-1.0, 1.0, block.dim))
        normalized = self.add("LayerNormalization", [x, scale, bias], axis=-1)
        image = self.reshape(normalized, 1, block.height, block.width, -1)
        shifted = self.roll(image, -block.shift) if block.shift else image
        done = self.reverse(self.attend(self.partition(shifted), mask_of(block)))
        back = self.roll(done, block.shift) if block.shift else done
        return self.add("Add", [x, self.reshape(back, 1, block.height * block.width, block.dim)], output)

    def model(self, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
        return model_of(self.nodes, self.block.inputs(), self.constants, outputs=outputs)


def mask_of(block: Block) -> Array | None:
    """Swin's mask of shifted windows, (1, windows, 1, tokens, tokens); None without a shift."""
    if not block.shift:
        return None
    bounds = [slice(0, -block.window), slice(-block.window, -block.shift), slice(-block.shift, None)]
    regions = np.zeros((block.height, block.width))
    for number, (rows, columns) in enumerate((rows, columns) for rows in bounds for columns in bounds):
        regions[rows, columns] = number
    window = block.window
    cut = regions.reshape(block.height // window, window, block.width // window, window).transpose(0, 2, 1, 3)
    flat = cut.reshape(block.windows, block.tokens)
    return np.where(flat[:, :, None] == flat[:, None, :], 0.0, -100.0)[None, :, None]


def swin_block(block: Block, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """One block, from "x" to "y"."""
    builder = GraphBuilder(block)
    builder.whole("x", "y")
    return builder.model(outputs)


def all_passes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after all passes for attention."""
    for attention_pass in ATTENTION_PASSES:
        model = attention_pass(model).model
    return model


def count(model: onnx.ModelProto, *operators: str) -> int:
    return sum(node.op_type in operators for node in model.graph.node)

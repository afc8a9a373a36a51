"""Inputs of an ONNX graph by name, for whatever runs it: a picture with values of the controls, or random values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Tensor = npt.NDArray[Any]  # the element type is the one that the graph declares
Tensors = Mapping[str, Tensor]

DYNAMIC_DIM = 24  # the size that replaces a dynamic dimension where a check needs a number


def feed_of(image_name: str, image: Tensor, controls: Mapping[str, float]) -> dict[str, Tensor]:
    """The input feed of a graph: its image, and its controls as float32 of shape [1]."""
    return {image_name: image, **{name: np.array([value], np.float32) for name, value in controls.items()}}


def random_inputs(model: onnx.ModelProto, seed: int) -> dict[str, Tensor]:
    """Seeded random inputs, in [0, 1) or 0 to 255 for integers; dynamic dimensions become DYNAMIC_DIM."""
    generator = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    values: dict[str, Tensor] = {}
    for graph_input in model.graph.input:
        if graph_input.name in weights:
            continue
        kind = graph_input.type.tensor_type
        shape = [dim.dim_value or DYNAMIC_DIM for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            values[graph_input.name] = generator.integers(0, 256, shape).astype(dtype)
        else:
            values[graph_input.name] = generator.random(shape).astype(dtype)
    return values

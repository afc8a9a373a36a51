"""Runs an ONNX graph in ONNX Runtime on the CPU, the independent judge of every export check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.export.exporter_errors import one_line

Tensor = npt.NDArray[Any]  # of whatever type a graph says
Tensors = Mapping[str, Tensor]

FREE_DIM_PX = 24  # the size given to a dynamic dimension where a check needs a number


def run_onnxruntime(model: Path | onnx.ModelProto, inputs: Tensors) -> dict[str, Tensor]:
    """All outputs of `model` by name.

    Raises:
        ExportError: ONNX Runtime refuses the graph, or cannot run it on these inputs.
    """
    return run_session(open_onnxruntime(model), inputs)


def open_onnxruntime(model: Path | onnx.ModelProto, optimize: bool = True) -> ort.InferenceSession:
    """A CPU session whose threads do not spin after a run (they would slow whatever runs next).

    Without `optimize` every node is computed as it is written, by no fused kernel.

    Raises:
        ExportError: ONNX Runtime refuses the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # an error is raised as an exception, too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ExportError(
            f"ONNX Runtime refuses the graph: {one_line(error)}", found=model if isinstance(model, Path) else None
        ) from error


def run_session(session: ort.InferenceSession, inputs: Tensors) -> dict[str, Tensor]:
    """All outputs of an open session by name; raises ExportError when ONNX Runtime cannot run these inputs."""
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        shapes = {name: value.shape for name, value in inputs.items()}
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ExportError(
            f"ONNX Runtime cannot run the graph on the inputs {listed}: {one_line(error)}", found=shapes
        ) from error


def feed_of(picture_name: str, picture: Tensor, controls: Mapping[str, float]) -> dict[str, Tensor]:
    """The inputs of a graph: its picture, and its controls as float32 [1]."""
    return {picture_name: picture, **{name: np.array([value], np.float32) for name, value in controls.items()}}


def random_inputs(model: onnx.ModelProto, seed: int) -> dict[str, Tensor]:
    """Seeded values in [0, 1), or 0 ... 255 for integers, for every input; dynamic dims become FREE_DIM_PX."""
    generator = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    values: dict[str, Tensor] = {}
    for graph_input in model.graph.input:
        if graph_input.name in weights:
            continue
        kind = graph_input.type.tensor_type
        shape = [dim.dim_value or FREE_DIM_PX for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            values[graph_input.name] = generator.integers(0, 256, shape).astype(dtype)
        else:
            values[graph_input.name] = generator.random(shape).astype(dtype)
    return values

"""Runs an ONNX graph in ONNX Runtime on the CPU, the reference of every export check."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.printable import one_line

Tensor = npt.NDArray[Any]  # the element type is the one that the graph declares
Tensors = Mapping[str, Tensor]

DYNAMIC_DIM = 24  # the size that replaces a dynamic dimension where a check needs a number


def run_onnxruntime(model: Path | onnx.ModelProto, inputs: Tensors) -> dict[str, Tensor]:
    """Runs `model` once and returns all outputs by name.

    Raises:
        ExportError: ONNX Runtime refuses the graph, or cannot run it on these inputs.
    """
    return run_session(open_onnxruntime(model), inputs)


def open_onnxruntime(model: Path | onnx.ModelProto, optimize: bool = True) -> ort.InferenceSession:
    """Opens a session on the CPU.

    Args:
        model: The ONNX file or the model.
        optimize: False disables all graph optimizations, so that every node runs as it is written and none is fused.

    Raises:
        ExportError: ONNX Runtime refuses the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised as exceptions, too
    # Threads that spin after a run would slow down whatever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ExportError(
            f"ONNX Runtime refuses the graph: {one_line(str(error))}", found=model if isinstance(model, Path) else None
        ) from error


def run_session(session: ort.InferenceSession, inputs: Tensors, limit_s: float | None = None) -> dict[str, Tensor]:
    """Runs an open session once and returns all outputs by name.

    Args:
        session: the session.
        inputs: the inputs by name.
        limit_s: seconds after which the run is ended, since loops in files of others may never end; None for no limit.

    Raises:
        ExportError: ONNX Runtime cannot run the graph on these inputs, or not within the limit.
    """
    names = [output.name for output in session.get_outputs()]
    options = ort.RunOptions()
    timer = threading.Timer(limit_s or 0.0, setattr, (options, "terminate", True))
    timer.daemon = True
    if limit_s is not None:
        timer.start()
    try:
        return dict(zip(names, session.run(names, dict(inputs), options), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        if options.terminate:
            raise ExportError(
                f"the graph did not end within {limit_s:g} s on a small picture", found=None, wanted=limit_s
            ) from error
        shapes = {name: value.shape for name, value in inputs.items()}
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ExportError(
            f"ONNX Runtime cannot run the graph on the inputs {listed}: {one_line(str(error))}", found=shapes
        ) from error
    finally:
        timer.cancel()


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

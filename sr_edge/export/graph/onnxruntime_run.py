"""Runs an ONNX graph in ONNX Runtime on the CPU, the reference of every export check."""

from __future__ import annotations

import threading
from pathlib import Path

import onnx
import onnxruntime as ort  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.export.graph.inputs import Tensor, Tensors
from sr_edge.printable import one_line


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

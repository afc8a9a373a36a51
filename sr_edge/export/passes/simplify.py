"""Simplification by onnxsim; export trusts its result only after comparing it with the PyTorch network."""

from __future__ import annotations

import onnx
import onnxsim  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.export.passes.native_output import captured_native_output
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.printable import one_line


def simplify(model: onnx.ModelProto) -> PassResult:
    """Folds constants and removes nodes that do nothing; `model` is not modified.

    Explicit Cast nodes stay: onnxsim removes only casts to the type that a tensor already has.

    onnxsim's own comparison on random input is switched off: a network may amplify the rounding of such input a
    thousandfold. The caller compares the result on images (`sr_edge.export.checks.parity`).

    Raises:
        ExportError: onnxsim failed.
    """
    try:
        with captured_native_output():  # onnxsim warns about every constant that it cannot fold at once
            simplified, _ = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # onnxsim raises whatever its C++ core throws
        raise ExportError(f"onnxsim could not simplify the graph: {one_line(str(error))}") from error
    if _content(simplified) == _content(model):
        return PassResult(model, False, "onnxsim found nothing to fold or to remove")
    before, after = len(model.graph.node), len(simplified.graph.node)
    return PassResult(simplified, True, f"onnxsim rewrote {before} nodes as {after}")


def _content(model: onnx.ModelProto) -> bytes:
    """The graph in bytes, without the shapes that inference adds to it."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    graph.ClearField("value_info")
    return graph.SerializeToString(deterministic=True)

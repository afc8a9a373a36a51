"""Simplification by onnxsim; export trusts its result only after comparing it with the PyTorch network."""

from __future__ import annotations

import onnx
import onnxsim  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.export.exporter_errors import one_line
from sr_edge.export.native_output import captured_native_output


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Folds constants and removes nodes that do nothing; `model` is left alone.

    Explicit Cast nodes stay: onnxsim removes only casts to the type a tensor already has.

    onnxsim's own comparison on random input is off: a network may amplify the rounding of such input a thousandfold.
    Whoever calls this compares the result on pictures (`sr_edge.export.checks.parity`).

    Raises:
        ExportError: onnxsim failed.
    """
    try:
        with captured_native_output():  # it warns of every constant that it folds a round later
            simplified, _ = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # onnxsim raises whatever its C++ core throws
        raise ExportError(f"onnxsim could not simplify the graph: {one_line(error)}") from error
    return simplified

"""Simplification by onnxsim, trusted only after the simplified graph gave the same numbers as the original."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxsim  # type: ignore[import-untyped]

from sr_edge.errors import ExportError
from sr_edge.export.onnx_run import Tensor, open_onnxruntime, random_inputs, run_session

STDERR = 2
CHECKS = 2
RELATIVE_BOUND = 1e-5  # constant folding re-associates sums: a few float32 ulps of the largest output value


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Folds constants and removes nodes that do nothing; `model` is left alone.

    Explicit Cast nodes stay: onnxsim removes only casts to the type a tensor already has.

    Raises:
        ExportError: onnxsim failed, or the simplified graph differs on seeded random inputs by more than
            RELATIVE_BOUND of the largest output value.
    """
    try:
        with _native_stderr_muted():
            simplified, _ = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # onnxsim raises whatever its C++ core throws
        raise ExportError(f"onnxsim could not simplify the graph: {error}") from error
    _require_equal(model, simplified)
    return simplified


@contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """Mutes onnxsim's C++ core, which warns on file descriptor 2 of every constant that it folds a round later."""
    sys.stderr.flush()
    original = os.dup(STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(original, STDERR)
        os.close(original)


def _require_equal(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    sessions = open_onnxruntime(before), open_onnxruntime(after)
    for seed in range(CHECKS):
        inputs = random_inputs(before, seed)
        original, simplified = (run_session(session, inputs) for session in sessions)
        for name, expected in original.items():
            _require_close(name, simplified[name], expected)


def _require_close(name: str, found: Tensor, expected: Tensor) -> None:
    error = float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
    bound = RELATIVE_BOUND * max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    if not error <= bound:
        raise ExportError(
            f"the simplified graph differs from the exported one by {error:.3g} in {name!r} (bound {bound:.3g}); "
            "report the network, and pin the onnxsim version of constraints.txt meanwhile"
        )

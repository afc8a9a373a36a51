"""Conversion of a PyTorch module to an ONNX model by torch's newer exporter, brought down to opset 17.

It captures a network with torch.export at one size, computes everything that does not depend on the image, and knows
operators that the TorchScript-based exporter does not, such as Fourier transforms and `fold`. It takes longer, writes
opset 18 and more transposes, so that it is only asked where the other one fails (see docs/adr).
"""

from __future__ import annotations

import warnings

import onnx
import torch
from torch import nn

from sr_edge.errors import ExportError, SrEdgeError
from sr_edge.export.graph.vendor_errors import MAX_REASON_LENGTH
from sr_edge.export.passes.native_output import captured_native_output
from sr_edge.export.passes.rewrites.opset import lower_opset
from sr_edge.export.passes.tracing import INPUT_NAME, OUTPUT_NAME
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.spec import TileSpec

NATIVE_OPSET = 18
"""The opset that the exporter writes without its own converter, which leaves another opset where it fails."""


def trace_by_newer_exporter(module: nn.Module, tile: TileSpec, channels: int = 3) -> onnx.ModelProto:
    """Captures `module` for one tile, as `sr_edge.export.passes.tracing.trace` does, at opset 17.

    Args:
        module: the network, in eval mode from then on.
        tile: the height and width to capture it at.
        channels: the channels of the input.

    Raises:
        ExportError: the exporter cannot express the network, or opset 17 has no form of an operator.
    """
    try:
        with captured_native_output(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _export(module.eval(), tile, channels)
    except (SrEdgeError, MemoryError):
        raise
    except Exception as error:  # the exporter's own, and whatever the network's code raises while it is captured
        reason = _root_reason(error)
        raise ExportError(
            f"the newer exporter of torch cannot express the network: {reason}",
            found=reason,
            wanted=NATIVE_OPSET,
            remedy="write that part with other operators of torch (docs/export.md)",
        ) from error
    return lower_opset(model).model


def _export(module: nn.Module, tile: TileSpec, channels: int) -> onnx.ModelProto:
    controls = controls_of(module)
    inputs = (torch.zeros(1, channels, tile.height, tile.width), *control_tensors(controls))
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=NATIVE_OPSET,
            input_names=[INPUT_NAME, *(control.name for control in controls)],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    if program is None:
        raise TypeError("it returned no program")
    model: onnx.ModelProto = program.model_proto
    return model


def _root_reason(error: BaseException) -> str:
    """The first line of the error that caused all others, with its type."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 4].rstrip() + " ..."

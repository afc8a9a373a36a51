"""Conversion of a PyTorch module to an ONNX model by the TorchScript-based exporter, at opset 17.

The newer exporter of torch (dynamo=True) writes opset 18, also where it was asked for 17, and adds transposes; it is
used only for networks that this one cannot express (`newer_exporter`). TensorRT 10.3 on a Jetson reads opset 17 well.
See docs/adr.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from sr_edge.errors import ExportError, SrEdgeError
from sr_edge.export.graph.vendor_errors import exporter_reason
from sr_edge.export.graph.view import default_opset
from sr_edge.export.passes.native_output import NativeOutput, captured_native_output
from sr_edge.files.unfinished import temporary_folder
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.spec import RGB, TileSpec

OPSET = 17
INPUT_NAME = "input"
OUTPUT_NAME = "output"

_EXPECTED_DEPRECATIONS = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
)
_DYNAMIC_AXES = {INPUT_NAME: {2: "height", 3: "width"}, OUTPUT_NAME: {2: "output_height", 3: "output_width"}}


def trace(module: nn.Module, tile: TileSpec, dynamic: bool = False, channels: int = RGB) -> onnx.ModelProto:
    """Traces `module` with a float32 (1, channels, height, width) input named "input" and an output named "output".

    The network's controls become inputs under their own names, float32 of shape [1].

    Args:
        module: the network, in eval mode from then on.
        tile: the height and width to trace at.
        dynamic: makes height and width of input and output symbolic. Whether the network is correct at other sizes must
            be tested by the caller, since tracing turns Python integers into constants without a warning.
        channels: the number of channels of the network.

    Raises:
        ExportError: the exporter cannot express an operator in ONNX, the network cannot be run, or the exporter wrote
            another opset.
    """
    with temporary_folder("trace") as folder:
        file = folder / "traced.onnx"
        printed = NativeOutput()
        try:
            with captured_native_output() as printed:
                _export(module.eval(), (1, channels, tile.height, tile.width), dynamic, file)
        except (SrEdgeError, MemoryError):
            raise
        except Exception as error:  # the exporter's own, and whatever the network's code raises while it is traced
            reason = exporter_reason(error, printed.text)
            raise ExportError(
                f"the network has no ONNX form at opset {OPSET}: {reason}",
                found=reason,
                wanted=OPSET,
                remedy="write that part with other operators of torch (docs/export.md)",
            ) from error
        model = onnx.load(file)
    if default_opset(model) != OPSET:
        raise ExportError(
            f"the exporter of torch {torch.__version__} wrote opset {default_opset(model)}, not {OPSET}",
            found=default_opset(model),
            wanted=OPSET,
            remedy="install the release of torch that sr-edge asks for",
        )
    return model


def _without_scripts(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """The module, or its torch.jit trace where parts of it are scripted, which the exporter refuses."""
    if not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return module
    traced: nn.Module = torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    return traced


def _export(module: nn.Module, shape: tuple[int, ...], dynamic: bool, file: Path) -> None:
    controls = controls_of(module)
    with warnings.catch_warnings():
        for message in _EXPECTED_DEPRECATIONS:
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        inputs = (torch.zeros(shape), *control_tensors(controls))
        torch.onnx.export(
            _without_scripts(module, inputs),
            inputs,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME, *(control.name for control in controls)],
            output_names=[OUTPUT_NAME],
            dynamic_axes=_DYNAMIC_AXES if dynamic else None,
        )

"""OpenVINO on the CPU and on any other device that the library finds, by OpenVINO's name for it ("GPU")."""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.runtimes.engine.executed import executed_precision, require_possible, unsupported
from sr_edge.runtimes.engine.host_format import Tile, graph_shape, require_graph
from sr_edge.runtimes.engine.session import DEFAULT_SLOTS, ControlArrays, EngineProperties, session_over
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.session import Availability, Device, Session, SessionRequest
from sr_edge.spec import ActivationType, FrameFormat, Precision


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hides the telemetry package, so that `import openvino` sends nothing over the network and uses a stub instead."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # None makes Python raise ImportError for that name
    try:
        yield
    finally:
        del sys.modules[name]


with _without_telemetry():
    import openvino as ov  # type: ignore[import-untyped]  # ships no types

NAME = "openvino"

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16"}
_ELEMENTS = {
    "f32": Precision.FP32,
    "bf16": Precision.BF16,
    "f16": Precision.FP16,
    "i8": Precision.INT8,
    "u8": Precision.INT8,
}
_FILE_LAYERS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
_ENGINE_LAYERS = {"convolution", "deconvolution", "fullyconnected", "fully_connected", "matmul", "gemm"}
_DEQUANTIZING = {"Multiply", "Subtract", "Convert", "Reshape", "Transpose"}


def availability() -> Availability:
    core = shared_core()
    devices = tuple(
        Device(name.lower(), core.get_property(name, "FULL_DEVICE_NAME"), _precisions(core, name))
        for name in core.available_devices
    )
    reason = "" if devices else "OpenVINO finds no device"
    return Availability(works=bool(devices), version=library_version(), devices=devices, reason=reason)


def obstacle(precision: Precision, device: str) -> PrecisionUnavailable | None:
    core = shared_core()
    name = _require_device(core, device)
    possible = _precisions(core, name)
    if precision in possible:
        return None
    return unsupported(f"the openvino runtime does not support {precision} on {name.lower()}", precision, possible)


def choose_artifact(
    artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
) -> Artifact | None:
    """Selects the graph; bf16 runs the fp32 graph.

    An INT8 graph needs uint8 activations: OpenVINO computes wrong values for int8 activations after a Concat.
    """
    if precision is Precision.INT8:
        file_float_precision = Precision.FP32 if float_precision is Precision.BF16 else float_precision
        activation_types = (ActivationType.UINT8,)
        return first_fitting(artifacts, ArtifactKind.ONNX, precision, file_float_precision, activation_types, io, NAME)
    file_precision = Precision.FP32 if precision is Precision.BF16 else precision
    return first_fitting(artifacts, ArtifactKind.ONNX, file_precision, io=io, runtime=NAME)


def open_request(request: SessionRequest) -> Session:
    core = shared_core()
    device = _require_device(core, request.device)
    requested = (request.precision, request.inference_precision)
    require_possible(request, [obstacle(precision, device) for precision in requested])
    possible = _precisions(core, device)
    inference_precision = request.inference_precision if request.inference_precision in possible else Precision.FP32
    started = time.perf_counter()
    model = _read(core, request)
    with vendor_errors(
        f"OpenVINO cannot compile {request.artifact.name} for {device}",
        "check the file and the options",
        request.artifact,
    ):
        compiled = core.compile_model(model, device, _properties(request, inference_precision))
    engine = _OpenVinoEngine(compiled, request.slots or DEFAULT_SLOTS)
    load_ms = 1e3 * (time.perf_counter() - started)
    executed = executed_precision(_layers(compiled), _quantized_layers(model), _hint_of(compiled))
    properties = EngineProperties(NAME, library_version(), device.lower(), thread_count(compiled), load_ms, executed)
    return session_over(engine, request, properties)


class _OpenVinoEngine:
    """One infer request for each slot; it reads and writes the caller's memory, and nothing is copied."""

    def __init__(self, compiled: Any, slots: int) -> None:
        self.slots = slots
        self.controls = tuple(port.any_name for port in compiled.inputs[1:])
        self._input = compiled.inputs[0]
        self._control_ports = {port.any_name: port for port in compiled.inputs[1:]}
        self._output = compiled.outputs[0]
        self._requests = [compiled.create_infer_request() for _ in range(slots)]

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        request = self._requests[slot]
        with vendor_errors("OpenVINO failed to run a tile", "try another precision or device"):
            request.set_tensor(self._input, ov.Tensor(tile, shared_memory=True))
            request.set_tensor(self._output, ov.Tensor(out, shared_memory=True))
            for name, value in controls.items():
                request.set_tensor(self._control_ports[name], ov.Tensor(value, shared_memory=True))
            # infer() would copy the outputs into a dictionary.
            request.start_async()
            request.wait()

    def close(self) -> None:
        self._requests.clear()


@functools.cache
def shared_core() -> Any:
    """The only `openvino.Core` of this process; code that uses OpenVINO without a session must take this one too.

    A second one would load the device plugins again. Besides, the CPU plugin installs an alternative signal stack for
    the thread and frees it together with its core: with two cores, destroying the one whose stack is installed makes
    the next Ctrl-C a segmentation fault.
    """
    return ov.Core()


def _read(core: Any, request: SessionRequest) -> Any:
    with vendor_errors(f"OpenVINO cannot read {request.artifact}", "export the model again", request.artifact):
        model = core.read_model(request.artifact)
        if model.inputs[0].partial_shape.is_dynamic:
            model.reshape({model.inputs[0]: list(graph_shape(request.io, request.tile, request.card.channels))})
    require_graph(request, _dimensions(model.inputs[0]), _dimensions(model.outputs[0]))
    return model


def _dimensions(port: Any) -> list[int | None]:
    return [dimension.get_length() if dimension.is_static else None for dimension in port.partial_shape]


def _properties(request: SessionRequest, inference_precision: Precision) -> dict[str, str]:
    """The precision is always set: by default OpenVINO runs float graphs in bf16 or fp16 where the device can."""
    several = request.slots is not None and request.slots > 1
    properties = {
        "INFERENCE_PRECISION_HINT": precision_hint(inference_precision),
        "PERFORMANCE_HINT": "THROUGHPUT" if several else "LATENCY",
    }
    if several:
        properties["PERFORMANCE_HINT_NUM_REQUESTS"] = str(request.slots)
    if request.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = str(request.threads)
    return properties | dict(request.options or {})


def precision_hint(precision: Precision) -> str:
    """OpenVINO's name of a float precision, for INFERENCE_PRECISION_HINT."""
    return _HINTS[precision]


def _layers(compiled: Any) -> Counter[Precision]:
    """Counts convolutions and matrix multiplications of the executable graph by the precision of their kernels."""
    counts: Counter[Precision] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        properties = node.get_rt_info()
        if "layerType" not in properties or properties["layerType"].astype(str).lower() not in _ENGINE_LAYERS:
            continue
        precision = _ELEMENTS.get(properties["runtimePrecision"].astype(str).lower())
        if precision is not None:
            counts[precision] += 1
    return counts


def _quantized_layers(model: Any) -> int:
    """Number of convolutions and matrix multiplications of the file whose weights are stored in 8 bits."""
    return sum(_has_int8_weights(node) for node in model.get_ops() if node.get_type_name() in _FILE_LAYERS)


def _has_int8_weights(layer: Any) -> bool:
    source = layer.input_value(1).get_node()
    while source.get_type_name() in _DEQUANTIZING:
        source = source.input_value(0).get_node()
    return source.get_type_name() == "Constant" and source.get_element_type().to_string() in ("i8", "u8")


def _hint_of(compiled: Any) -> Precision:
    return _ELEMENTS[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]


def thread_count(compiled: Any) -> int:
    """Number of threads on the host; 0 for a device that uses none."""
    if "INFERENCE_NUM_THREADS" not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return 0
    return int(compiled.get_property("INFERENCE_NUM_THREADS"))


def _require_device(core: Any, device: str) -> str:
    name = device.upper()
    devices = core.available_devices
    if name in devices or any(other.split(".")[0] == name for other in devices):
        return name
    present = tuple(other.lower() for other in devices)
    raise RuntimeUnavailable(
        f"openvino finds no device {device!r} here",
        found=device,
        wanted=present,
        remedy=f"choose one of: {', '.join(present) or 'none'}, or install the driver of the device",
    )


def _precisions(core: Any, device: str) -> tuple[Precision, ...]:
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return tuple(precision for precision in Precision if precision.name in capabilities)


def library_version() -> str:
    """The version of OpenVINO without its build number."""
    return str(ov.__version__).split("-")[0]

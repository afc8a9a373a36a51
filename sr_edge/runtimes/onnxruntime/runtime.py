"""ONNX Runtime with the CPU execution provider, or with the CUDA one where the GPU build is installed."""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort  # type: ignore[import-untyped]  # ships no types

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable, UsageError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.runtimes.engine.cores import physical_cores
from sr_edge.runtimes.engine.executed import Executed, executed_precision, require_possible, unsupported
from sr_edge.runtimes.engine.host_format import Tile, require_graph
from sr_edge.runtimes.engine.session import DEFAULT_SLOTS, ControlArrays, EngineProperties, session_over
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.session import Availability, Device, Session, SessionRequest
from sr_edge.spec import ActivationType, FrameFormat, Precision

NAME = "onnxruntime"
OPTIMIZATION_OPTION = "graph_optimization_level"

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PRECISIONS = {
    "cpu": (Precision.FP32, Precision.INT8),
    "cuda": (Precision.FP32, Precision.FP16, Precision.INT8),
}
_CAVEATS = {
    "cpu": {
        Precision.INT8: "it runs a layer in INT8 only where the layer's output is quantized too; the graphs that "
        "sr-edge writes have float outputs, so their layers run in fp32 here and a session refuses int8; "
        "openvino runs them in int8"
    }
}
_OPTIMIZATION = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_LOG_ERRORS_ONLY = 3
_INT8_LAYERS = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"}
_FLOAT_LAYERS = {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
_PLAIN_FLOAT = Executed(Precision.FP32, Precision.FP32)


def availability() -> Availability:
    present = ort.get_available_providers()
    devices = tuple(
        Device(device, provider, _PRECISIONS[device], _CAVEATS.get(device, {}))
        for device, provider in _PROVIDERS.items()
        if provider in present
    )
    return Availability(works=True, version=ort.__version__, devices=devices)


def obstacle(precision: Precision, device: str) -> PrecisionUnavailable | None:
    kind = _require_device(device)
    if precision in _PRECISIONS[kind]:
        return None
    reason = f"onnxruntime has no {precision} kernels on {kind}"
    if precision is Precision.FP16:
        reason += " and computes fp16 graphs in fp32 there"
    sound = tuple(possible for possible in _PRECISIONS[kind] if possible not in _CAVEATS.get(kind, {}))
    return unsupported(reason, precision, sound)


def choose_artifact(
    artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
) -> Artifact | None:
    """Selects the file of that precision; for INT8 both activation types serve, int8 first."""
    if precision is Precision.INT8:
        activation_types = (ActivationType.INT8, ActivationType.UINT8)
        return first_fitting(artifacts, ArtifactKind.ONNX, precision, float_precision, activation_types, io, NAME)
    file_precision = Precision.FP32 if precision is Precision.BF16 else precision
    return first_fitting(artifacts, ArtifactKind.ONNX, file_precision, io=io, runtime=NAME)


def open_request(request: SessionRequest) -> Session:
    kind = _require_device(request.device)
    requested = (request.precision, request.inference_precision)
    require_possible(request, [obstacle(precision, request.device) for precision in requested])
    threads = request.threads or physical_cores()  # the library's default, set explicitly so that it can be reported
    with temporary_folder("onnxruntime") as folder:
        optimized = folder / "optimized.onnx" if _needs_inspection(request) else None
        started = time.perf_counter()
        session = _create(request, threads, optimized)
        load_ms = 1e3 * (time.perf_counter() - started)
        executed = _executed(optimized, request.artifact, kind) if optimized else _PLAIN_FLOAT
    require_graph(request, session.get_inputs()[0].shape, session.get_outputs()[0].shape)
    engine = _OnnxRuntimeEngine(session, request.slots or DEFAULT_SLOTS)
    properties = EngineProperties(NAME, ort.__version__, request.device, threads, load_ms, executed)
    return session_over(engine, request, properties)


class _OnnxRuntimeEngine:
    """One InferenceSession for all slots, each with an IOBinding to the caller's memory; nothing is copied."""

    def __init__(self, session: Any, slots: int) -> None:
        self.slots = slots
        self.controls = tuple(port.name for port in session.get_inputs()[1:])
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name
        self._bindings = [session.io_binding() for _ in range(slots)]

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        binding = self._bindings[slot]
        with vendor_errors("onnxruntime failed to run a tile", "try another precision or device"):
            for name, array in ((self._input, tile), *controls.items()):
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            binding.bind_output(self._output, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)

    def close(self) -> None:
        self._bindings.clear()
        del self._session


def _create(request: SessionRequest, threads: int, optimized: Path | None) -> Any:
    provider = _PROVIDERS[_require_device(request.device)]
    with vendor_errors(
        f"onnxruntime cannot load {request.artifact}", "export the model again, or check the options", request.artifact
    ):
        session = ort.InferenceSession(
            request.artifact,
            session_options(request.options or {}, threads, optimized),
            providers=[(provider, _provider_options(request.device))],
        )
    if session.get_providers()[0] != provider:
        raise RuntimeUnavailable(
            f"onnxruntime could not start {provider} and fell back to {session.get_providers()[0]}",
            found=session.get_providers()[0],
            wanted=provider,
            remedy=f"check that the CUDA and cuDNN versions fit onnxruntime {ort.__version__}, or pass --device cpu",
        )
    return session


def session_options(options: Mapping[str, str], threads: int, optimized: Path | None) -> Any:
    """The options of a session, and the file that it shall write its optimized graph to.

    Args:
        options: `graph_optimization_level` and configuration entries, by ONNX Runtime's names.
        threads: number of threads.
        optimized: an ONNX file to be written; None for none.

    Raises:
        UsageError: there is no such optimization level.
    """
    entries = dict(options)
    level = entries.pop(OPTIMIZATION_OPTION, "all")
    if level not in _OPTIMIZATION:
        raise UsageError(
            f"unknown {OPTIMIZATION_OPTION} {level!r}",
            found=level,
            wanted=tuple(_OPTIMIZATION),
            remedy=f"choose one of: {', '.join(_OPTIMIZATION)}",
        )
    settings = ort.SessionOptions()
    settings.graph_optimization_level = _OPTIMIZATION[level]
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _LOG_ERRORS_ONLY
    if optimized is not None:
        settings.optimized_model_filepath = str(optimized)
    # Threads that spin after a run would slow down whatever this process runs next, for example another runtime.
    for name, value in ({"session.intra_op.allow_spinning": "0"} | entries).items():
        settings.add_session_config_entry(name, value)
    return settings


def _provider_options(device: str) -> dict[str, str]:
    """Switches off TF32, the default for fp32 on NVIDIA GPUs: it rounds mantissas to 10 bits, which is not fp32."""
    if device == "cpu":
        return {}
    return {"device_id": device.partition(":")[2] or "0", "use_tf32": "0"}


def _needs_inspection(request: SessionRequest) -> bool:
    """Whether anything but fp32 may run; only then is the optimized graph written to a file and examined."""
    if request.precision is not Precision.FP32:
        return True
    with request.artifact.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"QuantizeLinear") >= 0


def _executed(optimized: Path, artifact: Path, kind: str) -> Executed:
    return executed_precision(_layers(optimized, kind), _quantized_layers(artifact), Precision.FP32)


def _layers(optimized: Path, kind: str) -> Counter[Precision]:
    """Counts the layers of the optimized graph by precision; the CPU kernels compute every float type in fp32."""
    graph = onnx.load(optimized).graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    counts: Counter[Precision] = Counter()
    for node in graph.node:
        if node.op_type in _INT8_LAYERS:
            counts[Precision.INT8] += 1
        elif node.op_type in _FLOAT_LAYERS:
            is_half = kind != "cpu" and any(name in halves for name in node.input)
            counts[Precision.FP16 if is_half else Precision.FP32] += 1
    return counts


def _quantized_layers(artifact: Path) -> int:
    """Number of convolutions and matrix multiplications of the file whose inputs and weights are dequantized values."""
    nodes = onnx.load(artifact).graph.node
    dequantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    return sum(node.op_type in _FLOAT_LAYERS and dequantized.issuperset(node.input[:2]) for node in nodes)


def _require_device(device: str) -> str:
    """The kind of a device, "cpu" or "cuda" ("cuda:1" is the second GPU); raises RuntimeUnavailable."""
    kind, _, index = device.partition(":")
    present = [name for name, provider in _PROVIDERS.items() if provider in ort.get_available_providers()]
    if kind in present and (index == "" or (kind == "cuda" and index.isdigit())):
        return kind
    advice = ", or install onnxruntime-gpu instead of onnxruntime for CUDA" if kind == "cuda" else ""
    raise RuntimeUnavailable(
        f"onnxruntime has no device {device!r} here",
        found=device,
        wanted=tuple(present),
        remedy=f"choose one of: {', '.join(present)}{advice}",
    )

"""The runtimes `tensorrt` and `tensorrt-rtx`, one implementation over either library."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_edge.bundle import Artifact, ArtifactKind, sha256_of
from sr_edge.errors import EngineError, PrecisionUnavailable, RuntimeUnavailable, UsageError
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.runtimes.cuda.api import Cuda, Gpu
from sr_edge.runtimes.cuda.gpu_state import GpuState, read_gpu_state
from sr_edge.runtimes.cuda.providers import PROVIDERS, find_gpus, open_cuda
from sr_edge.runtimes.engine.executed import Executed, require_possible
from sr_edge.runtimes.engine.host_format import graph_shape, output_format, require_graph
from sr_edge.runtimes.engine.session import DEFAULT_SLOTS, EngineProperties, verified_spec
from sr_edge.runtimes.session import Availability, Device, Session, SessionRequest
from sr_edge.runtimes.tensorrt.api import (
    Flavour,
    TensorRTLibrary,
    TrtICudaEngine,
    TrtIExecutionContext,
    TrtModule,
    load_library,
    rtx_compute_capabilities,
    rtx_engine,
)
from sr_edge.runtimes.tensorrt.cache import EngineCache, StoredEngine
from sr_edge.runtimes.tensorrt.engine import Element, IoTensor, IoTensors, TensorRtEngine
from sr_edge.runtimes.tensorrt.errors import out_of_memory, plain_reason
from sr_edge.runtimes.tensorrt.log import process_log
from sr_edge.runtimes.tensorrt.options import BuildOptions, Compatibility, SizeRange
from sr_edge.runtimes.tensorrt.session import DeviceMemory, TensorRtSession
from sr_edge.runtimes.tensorrt.store import engine_key, fetch_engine, target_of_gpu
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec

_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
_BUILD_OPTIONS = ("workspace_mib", "optimization_level", "timing_cache", "sizes", "dla")
_OPTIONS = (*_BUILD_OPTIONS, "cuda_graph", "provider")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuAccess:
    """Functions that list the GPUs of this machine, open one by index and provider, and read its power and clocks."""

    find: Callable[[], tuple[Gpu, ...]] = find_gpus
    open: Callable[[int, str | None], Cuda] = open_cuda
    read_state: Callable[[int], GpuState | None] = read_gpu_state


def load_tensorrt(flavour: str) -> TensorRtRuntime:
    """Imports the library of that flavour, "tensorrt" or "tensorrt-rtx", and makes its runtime.

    Raises:
        ImportError: the library is not installed or cannot be loaded.
        RuntimeUnavailable: its version is not supported.
    """
    return TensorRtRuntime(load_library(Flavour(flavour)))


class TensorRtRuntime:
    """`Runtime` over one imported TensorRT library."""

    def __init__(self, library: TensorRTLibrary, access: GpuAccess = GpuAccess()) -> None:
        self._library = library
        self._access = access

    def availability(self) -> Availability:
        try:
            gpus = self._access.find()
        except RuntimeUnavailable as error:
            return Availability(works=False, version=self._library.version, reason=str(error))
        refusals = [str(refusal) for gpu in gpus if (refusal := self._refusal(gpu))]
        devices = tuple(
            Device(_device_name(gpu.index), gpu.name, _PRECISIONS) for gpu in gpus if not self._refusal(gpu)
        )
        return Availability(bool(devices), self._library.version, devices, "; ".join(refusals) if not devices else "")

    def obstacle(self, precision: Precision, device: str) -> PrecisionUnavailable | None:
        self._gpu(device)
        if precision in _PRECISIONS:
            return None
        return PrecisionUnavailable(
            f"sr-edge has no {precision} graphs for {self._library.flavour}",
            found=precision,
            wanted=_PRECISIONS,
            remedy=f"choose a precision that it runs: {', '.join(_PRECISIONS)}",
        )

    def choose_artifact(
        self, artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
    ) -> Artifact | None:
        """Selects the file of that precision; INT8 with int8 activations, as TensorRT supports no zero point but 0."""
        name = str(self._library.flavour)
        if precision is Precision.INT8:
            activation_types = (ActivationType.INT8,)
            return first_fitting(artifacts, ArtifactKind.ONNX, precision, float_precision, activation_types, io, name)
        return first_fitting(artifacts, ArtifactKind.ONNX, precision, io=io, runtime=name)

    def open_request(self, request: SessionRequest) -> Session:
        settings = _settings(request)
        gpu = self._gpu(request.device)
        require_possible(
            request, [self.obstacle(kind, request.device) for kind in (request.precision, request.float_precision)]
        )
        cuda = self._access.open(gpu.index, settings.get("provider"))
        cache = EngineCache()
        started = time.perf_counter()
        with cuda.current():
            stored = self._fetch_engine(request, settings, cuda, cache)
            deserialized = load_engine(self._library, stored)
            io_tensors = io_tensors_of(self._library.trt, deserialized, request)
            runtime_cache = _RuntimeCache(self._library, deserialized, cache, f"{stored.path.stem}.kernels")
            new_context = _context_maker(deserialized, runtime_cache, cuda)
        slots = request.slots or DEFAULT_SLOTS
        use_cuda_graph = settings.get("cuda_graph", "on") == "on"
        engine = TensorRtEngine(cuda, io_tensors, new_context, slots, use_cuda_graph, runtime_cache.save)
        load_ms = 1e3 * (time.perf_counter() - started)
        notes = stored.record.notes
        executed = Executed(
            notes.ran, notes.float_precision, "; ".join(filter(None, (notes.note, engine.graph_obstacle)))
        )
        properties = EngineProperties(
            str(self._library.flavour), self._library.version, _device_name(gpu.index), 0, load_ms, executed
        )
        spec = verified_spec(engine, request, properties)
        memory = DeviceMemory(slots * deserialized.device_memory_size_v2, notes.weights_bytes, engine.buffer_bytes)
        return TensorRtSession(engine, spec, memory, lambda: self._access.read_state(gpu.index))

    def _fetch_engine(
        self, request: SessionRequest, settings: dict[str, str], cuda: Cuda, cache: EngineCache
    ) -> StoredEngine:
        """The engine of the request; without build options in it, the engine that was compiled last."""
        options = build_options(request, settings)
        target = target_of_gpu(cuda.gpu, cuda.free_bytes(), cuda.current)
        if not set(settings).intersection(_BUILD_OPTIONS):
            newest = cache.newest(engine_key(self._library, sha256_of(request.artifact), options, target))
            options = newest.key.options if newest else options
        if options.sizes is not None:
            options.sizes.require(request.tile)
        return fetch_engine(self._library, request.artifact, options, target, cache, on_event=_LOG.warning)

    def _gpu(self, device: str) -> Gpu:
        """The GPU of the device "cuda" or "cuda:1"; raises RuntimeUnavailable."""
        kind, _, index = device.partition(":")
        gpus = self._access.find()
        if kind != "cuda" or not (index == "" or index.isdigit()) or int(index or 0) >= len(gpus):
            names = tuple(_device_name(gpu.index) for gpu in gpus)
            raise RuntimeUnavailable(
                f"{self._library.flavour} has no device {device!r} here, only {', '.join(names)}, and does not run on "
                "the cpu",
                found=device,
                wanted=names,
                remedy="pass --device cuda",
            )
        gpu = gpus[int(index or 0)]
        refusal = self._refusal(gpu)
        if refusal:
            raise refusal
        return gpu

    def _refusal(self, gpu: Gpu) -> RuntimeUnavailable | None:
        """The error to raise because this library does not support `gpu`; None if it does."""
        supported = rtx_compute_capabilities(self._library)
        if not supported or gpu.compute_capability in supported:
            return None
        return RuntimeUnavailable(
            f"{self._library.name} does not run on {gpu.name} (compute capability {gpu.compute_capability}), only on "
            f"{', '.join(supported)}",
            found=gpu.compute_capability,
            wanted=tuple(supported),
            remedy="use the runtime tensorrt or onnxruntime there",
        )


def build_options(request: SessionRequest, settings: dict[str, str]) -> BuildOptions:
    """The build options of a request; raises UsageError where a setting cannot be parsed."""
    return BuildOptions(
        precision=request.precision,
        float_precision=request.float_precision if request.precision is Precision.INT8 else Precision.FP32,
        io=request.io,
        tile=request.tile,
        sizes=SizeRange.parse(settings["sizes"]) if "sizes" in settings else None,
        workspace_bytes=_whole_number(settings, "workspace_mib") * 2**20 if "workspace_mib" in settings else None,
        optimization_level=_whole_number(settings, "optimization_level") if "optimization_level" in settings else 3,
        dla_core=_whole_number(settings, "dla") if "dla" in settings else None,
        timing_cache=Path(settings["timing_cache"]) if "timing_cache" in settings else None,
    )


def load_engine(library: TensorRTLibrary, stored: StoredEngine) -> TrtICudaEngine:
    """Deserializes an engine whose digest was checked; raises EngineError with TensorRT's reason."""
    options = stored.record.key.options
    with process_log(library).listen() as log:
        runtime = library.trt.Runtime(process_log(library).logger)
        if options.dla_core is not None:
            runtime.DLA_core = options.dla_core
        if Compatibility.VERSION in options.compatible:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(stored.plan)
    if engine is None:
        reason = plain_reason(log.errors_and_warnings()[0]) if log.errors_and_warnings() else "it gave no reason"
        raise EngineError(
            f"{library.name} cannot load {stored.path.name}, which was built for {stored.record.key.device}, compute "
            f"capability {stored.record.key.compute_capability}: {reason}",
            found=stored.path,
            remedy="delete it and compile again on this device",
        )
    return engine


def io_tensors_of(trt: TrtModule, engine: TrtICudaEngine, request: SessionRequest) -> IoTensors:
    """The engine's I/O tensors: the input with four dimensions is the tile, every other input is a control.

    Raises:
        TileError: their shapes do not match the request.
        EngineError: the engine has not exactly one tile and one output.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    tiles = [name for name in inputs if len(engine.get_tensor_shape(name)) == 4]
    outputs = [name for name in names if name not in inputs]
    if len(tiles) != 1 or len(outputs) != 1:
        raise EngineError(
            f"{request.artifact.name} has {len(tiles)} images as inputs and {len(outputs)} outputs, but a "
            "super-resolution graph has one of each",
            found=(len(tiles), len(outputs)),
            wanted=(1, 1),
            remedy="export it with `sr-edge export`",
        )
    tile, out = tiles[0], outputs[0]
    shapes = [[size if size >= 0 else None for size in engine.get_tensor_shape(name)] for name in (tile, out)]
    require_graph(request, *shapes)
    scale = request.card.scale
    upscaled = TileSpec(request.tile.height * scale, request.tile.width * scale)
    is_float = request.io is FrameFormat.FLOAT_NCHW
    element: Element = np.dtype(np.float32) if is_float else np.dtype(np.uint8)
    return IoTensors(
        IoTensor(tile, graph_shape(request.io, request.tile, request.card.channels), element),
        tuple(IoTensor(name, (1,), np.dtype(np.float32)) for name in inputs if name != tile),
        IoTensor(out, graph_shape(output_format(request.io), upscaled, request.card.channels), element),
    )


class _RuntimeCache:
    """The kernels that TensorRT-RTX compiles on the device when an engine first runs, stored beside the engine."""

    def __init__(self, library: TensorRTLibrary, engine: TrtICudaEngine, store: EngineCache, name: str) -> None:
        self._store = store
        self._name = name
        self._rtx = rtx_engine(library, engine)
        self._plain = engine
        if self._rtx is None:
            return
        self._config = self._rtx.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        kernels = store.read_signed(name)
        if kernels:
            self._cache.deserialize(kernels)
        self._config.set_runtime_cache(self._cache)

    def new_context(self) -> TrtIExecutionContext | None:
        if self._rtx is None:
            return self._plain.create_execution_context()
        return self._rtx.create_execution_context(self._config)

    def save(self) -> None:
        """Stores the kernels for the next session."""
        if self._rtx is not None:
            self._store.write_signed(self._name, bytes(self._cache.serialize()))


def _context_maker(
    engine: TrtICudaEngine, runtime_cache: _RuntimeCache, cuda: Cuda
) -> Callable[[], TrtIExecutionContext]:
    def new_context() -> TrtIExecutionContext:
        with cuda.current():
            free_bytes = cuda.free_bytes()
            context = runtime_cache.new_context()
        if context is None:
            raise out_of_memory(
                "TensorRT cannot create an execution context", "", engine.device_memory_size_v2, free_bytes
            )
        return context

    return new_context


def _settings(request: SessionRequest) -> dict[str, str]:
    settings = dict(request.options or {})
    unknown = sorted(set(settings) - set(_OPTIONS))
    if unknown:
        raise UsageError(
            f"TensorRT has no option {unknown[0]!r}",
            found=unknown[0],
            wanted=_OPTIONS,
            remedy=f"choose from {', '.join(_OPTIONS)}",
        )
    _require_choice(settings, "cuda_graph", ("on", "off"))
    _require_choice(settings, "provider", PROVIDERS)
    return settings


def _require_choice(settings: dict[str, str], name: str, choices: tuple[str, ...]) -> None:
    if settings.get(name, choices[0]) not in choices:
        raise UsageError(
            f"{name} is {settings[name]!r}",
            found=settings[name],
            wanted=choices,
            remedy=f"choose one of: {', '.join(choices)}",
        )


def _whole_number(settings: dict[str, str], name: str) -> int:
    if not settings[name].isdigit():
        raise UsageError(
            f"{name} is {settings[name]!r}, which is not a whole number",
            found=settings[name],
            wanted="a whole number",
            remedy="pass a whole number",
        )
    return int(settings[name])


def _device_name(index: int) -> str:
    return f"cuda:{index}" if index else "cuda"

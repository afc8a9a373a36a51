"""Builds a strongly typed TensorRT engine from an ONNX file, for the local GPU or (TensorRT-RTX) for another one."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError, UsageError
from sr_edge.files.whole_file import whole_file
from sr_edge.runtimes.engine.host_format import graph_shape
from sr_edge.runtimes.tensorrt.api import (
    Flavour,
    TensorRTLibrary,
    TrtBuilder,
    TrtIBuilderConfig,
    TrtINetworkDefinition,
    monitor_class,
    rtx_builder_config,
    rtx_compute_capabilities,
)
from sr_edge.runtimes.tensorrt.errors import CANCELLED, ParserIssue, build_failure, parser_failure, with_output_name
from sr_edge.runtimes.tensorrt.log import EngineLayer, Listener, process_log
from sr_edge.runtimes.tensorrt.network import MemoryEstimate, NetworkTypes, estimate_memory, network_types
from sr_edge.runtimes.tensorrt.options import SIZES_FORM, BuildOptions, Compatibility, SizeRange
from sr_edge.spec import RGB, FrameFormat, OnEvent, StageProgress

_MIB = 2**20

POLL_INTERVAL_S = 0.2
"""How often the waiting thread wakes up to handle Ctrl-C.

The signal itself does not wake it if another thread receives it, or if it arrives just before the wait begins.
"""


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine and its properties.

    Attributes:
        plan: the serialized engine.
        types: types of the network's layers.
        layers: the layers that TensorRT lists for the engine.
        int8_layer_count: number of quantized layers that the engine runs in INT8; None if the engine does not list
            them, because they are inside a part that was compiled as a whole.
        gpu_fallback_layers: names of the layers that DLA cannot run and the GPU runs instead.
        memory: memory that the network was estimated to need.
        workspace_bytes: limit of the scratch memory.
        activation_bytes: device memory that the engine needs besides its weights.
        weights_bytes: device memory of the weights.
        build_s: duration of the build.
    """

    plan: bytes
    types: NetworkTypes
    layers: tuple[EngineLayer, ...]
    int8_layer_count: int | None
    gpu_fallback_layers: tuple[str, ...]
    memory: MemoryEstimate
    workspace_bytes: int
    activation_bytes: int
    weights_bytes: int
    build_s: float

    @property
    def reformats(self) -> int:
        """Number of layers that only change a tensor's layout, among those that the engine lists."""
        return sum("reformat" in layer.kind.lower() for layer in self.layers)


def build_engine(
    library: TensorRTLibrary,
    graph: Path,
    options: BuildOptions,
    *,
    free_bytes: int | None = None,
    on_device: Callable[[], AbstractContextManager[None]] = nullcontext,
    progress: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> BuiltEngine:
    """Parses and builds one ONNX file. Ctrl-C cancels the build at TensorRT's next step, and nothing is written.

    Args:
        library: the TensorRT to build with.
        graph: path of the ONNX file.
        options: how to build.
        free_bytes: free device memory; None if the GPU is not in this machine.
        on_device: context manager that makes the GPU current; entered in the thread that builds.
        progress: called in that thread with (stage, steps done, steps in all).
        on_event: called with messages for the user: memory limits and requirements, layers that fall back to the GPU.

    Raises:
        UsageError: the library or the graph does not support an option.
        PrecisionUnavailable: the graph is not of the requested precision.
        RuntimeUnavailable: a GPU or driver is needed and not available.
        EngineError: the parser or the builder rejects the graph, or memory ran out.
    """
    _require_options(library, options)
    monitor = BuildProgress(progress)
    # TensorRT may hold the GIL for a long time. So the build starts only once this thread is inside the `try` below,
    # where a KeyboardInterrupt cancels it.
    monitored = threading.Event()

    def work() -> BuiltEngine:
        monitored.wait()
        try:
            with on_device():
                return _build(library, graph, options, free_bytes, monitor, on_event)
        except EngineError:
            monitor.raise_failure()
            raise

    with ThreadPoolExecutor(1, thread_name_prefix="sr-edge-build") as pool:
        try:
            building = pool.submit(work)
            monitored.set()
            while not wait([building], timeout=POLL_INTERVAL_S).done:
                pass
            return building.result()
        except BaseException:
            # Leaving the pool waits for its thread, so that must not stay blocked on `monitored`.
            monitor.cancel()
            monitored.set()
            raise


class BuildProgress:
    """Reports the two outermost levels of TensorRT's build phases, and cancels the build."""

    def __init__(self, progress: StageProgress) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}
        self._top: set[str] = set()
        self._cancelled = False
        self._failure: Exception | None = None

    def cancel(self) -> None:
        """Ends the build at its next step; any thread may call it."""
        self._cancelled = True

    def raise_failure(self) -> None:
        """Raises the exception of the progress callback, which must not propagate through TensorRT."""
        if self._failure is not None:
            raise self._failure

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        if parent is None:
            self._top.add(phase)
        if parent is None or parent in self._top:
            self._steps[phase] = steps
            self._report(phase, 0)

    def step_complete(self, phase: str, step: int) -> bool:
        self._report(phase, step + 1)
        return not self._cancelled

    def phase_finish(self, phase: str) -> None:
        self._report(phase, self._steps.get(phase, 0))
        self._steps.pop(phase, None)

    def _report(self, phase: str, done: int) -> None:
        if phase not in self._steps or self._cancelled:
            return
        try:
            self._progress(phase, min(done, self._steps[phase]), self._steps[phase])
        except Exception as error:  # no exception may propagate through TensorRT's C++ frames
            self._failure = error
            self._cancelled = True


def _require_options(library: TensorRTLibrary, options: BuildOptions) -> None:
    """Raises UsageError for options that this library does not support, before anything is started."""
    is_rtx = library.flavour is Flavour.RTX
    obstacle = library.dla_obstacle() if options.dla_core is not None else None
    if obstacle:
        raise UsageError(
            f"--dla {options.dla_core} is not possible: {obstacle}",
            found=library.name,
            wanted="tensorrt 11.4.1 or newer",
            remedy="leave --dla out to build for the GPU",
        )
    if options.compute_capability and not is_rtx:
        raise UsageError(
            f"tensorrt builds for the GPU of this machine only, not for compute capability "
            f"{options.compute_capability}",
            found=options.compute_capability,
            remedy="leave --compute-capability out",
        )
    supported = rtx_compute_capabilities(library)
    if options.compute_capability and options.compute_capability not in supported:
        raise UsageError(
            f"{library.name} does not build for compute capability {options.compute_capability}",
            found=options.compute_capability,
            wanted=tuple(supported),
            remedy=f"choose one of: {', '.join(supported)}",
        )
    if is_rtx and options.timing_cache is not None:
        raise UsageError(
            "TensorRT-RTX does not time kernels while it builds, so it has no timing cache",
            found=options.timing_cache,
            remedy="leave --timing-cache out",
        )
    if is_rtx and options.compatible:
        raise UsageError(
            f"{library.name} cannot build {options.compatible[0]}-compatible engines",
            found=options.compatible[0],
            remedy="leave --compatible out and build for each GPU with --compute-capability",
        )


def _build(
    library: TensorRTLibrary,
    graph: Path,
    options: BuildOptions,
    free_bytes: int | None,
    monitor: BuildProgress,
    on_event: OnEvent,
) -> BuiltEngine:
    started = time.perf_counter()
    with process_log(library).listen() as log:
        builder = _new_builder(library, graph, log)
        network = parse_network(library, builder, graph, log)
        types = network_types(library.trt, network)
        types.require(options.precision, graph.name)
        memory = estimate_memory(library.trt, network, graph.stat().st_size)
        config = builder.create_builder_config()
        gpu_fallback_layers = _configure(library, builder, network, config, options)
        workspace_bytes = _cap_workspace(library, config, options, free_bytes, memory, on_event)
        config.progress_monitor = monitor_class(library.trt)(monitor)
        with _timing_cache(config, options, on_event):
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                raise _failure(graph, library, log, workspace_bytes + memory.build_bytes, free_bytes)
    if gpu_fallback_layers:
        on_event(
            f"{len(gpu_fallback_layers)} of {types.layers} layers fall back from DLA to the GPU: "
            f"{', '.join(gpu_fallback_layers)}"
        )
    layers = log.engine_layers()
    return BuiltEngine(
        plan=bytes(plan),
        types=types,
        layers=tuple(layers),
        int8_layer_count=count_int8_layers(types.quantized, layers),
        gpu_fallback_layers=gpu_fallback_layers,
        memory=memory,
        workspace_bytes=workspace_bytes,
        activation_bytes=log.logged_bytes("activation"),
        weights_bytes=log.logged_bytes("weights"),
        build_s=time.perf_counter() - started,
    )


def _new_builder(library: TensorRTLibrary, graph: Path, log: Listener) -> TrtBuilder:
    try:
        return library.trt.Builder(process_log(library).logger)
    except Exception as error:  # pybind reports only that a factory returned nullptr; TensorRT's log has the reason
        raise build_failure(graph.name, library.name, [*log.errors_and_warnings(), str(error)], 0, 0) from error


def _failure(
    graph: Path, library: TensorRTLibrary, log: Listener, wanted_bytes: int, free_bytes: int | None
) -> SrEdgeError:
    errors = log.errors_and_warnings()
    if any(CANCELLED in text for text in errors):
        return EngineError(f"the build of {graph.name} was cancelled, and no engine was written", found=graph.name)
    return build_failure(graph.name, library.name, errors, wanted_bytes, free_bytes or 0)


def parse_network(library: TensorRTLibrary, builder: TrtBuilder, graph: Path, log: Listener) -> TrtINetworkDefinition:
    """Parses an ONNX file into a strongly typed network; raises EngineError with node, operator, reason and remedy."""
    trt = library.trt
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, process_log(library).logger)
    if parser.parse_from_file(str(graph)) and network.num_outputs:
        return network
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    issues = [ParserIssue(error.node(), error.node_name(), error.node_operator(), error.desc()) for error in errors]
    raise parser_failure(
        graph.name, library.name, [with_output_name(issue, log.errors_and_warnings()) for issue in issues]
    )


def _configure(
    library: TensorRTLibrary,
    builder: TrtBuilder,
    network: TrtINetworkDefinition,
    config: TrtIBuilderConfig,
    options: BuildOptions,
) -> tuple[str, ...]:
    """Sets all build options except memory and progress; returns the layers that DLA cannot run."""
    trt = library.trt
    config.clear_flag(trt.BuilderFlag.TF32)  # TF32 rounds mantissas to 10 bits, which is not fp32
    config.builder_optimization_level = options.optimization_level
    if Compatibility.VERSION in options.compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if Compatibility.HARDWARE in options.compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    rtx = rtx_builder_config(library, config)
    if rtx is not None and options.compute_capability:
        rtx.num_compute_capabilities = 1
        rtx.set_compute_capability(rtx_compute_capabilities(library)[options.compute_capability], 0)
    _add_profile(builder, network, config, options)
    return () if options.dla_core is None else use_dla(library, builder, network, config, options.dla_core)


def use_dla(
    library: TensorRTLibrary, builder: TrtBuilder, network: TrtINetworkDefinition, config: TrtIBuilderConfig, core: int
) -> tuple[str, ...]:
    """Runs every layer on DLA that it supports; returns the names of the others, which fall back to the GPU.

    Raises:
        RuntimeUnavailable: The device has no such DLA core.
    """
    trt = library.trt
    if core >= builder.num_DLA_cores:
        raise RuntimeUnavailable(
            f"this machine has no DLA core {core}: it has {builder.num_DLA_cores} DLA cores, numbered from 0",
            found=core,
            wanted=range(builder.num_DLA_cores),
            remedy="choose another core with --dla, or leave it out to build for the GPU",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return tuple(layer.name for layer in layers if not config.can_run_on_DLA(layer))


def _add_profile(
    builder: TrtBuilder, network: TrtINetworkDefinition, config: TrtIBuilderConfig, options: BuildOptions
) -> None:
    """Adds one optimization profile for the inputs with dynamic shapes."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if not dynamic:
        if options.sizes is not None:
            raise UsageError(
                "the graph has one fixed size, so it cannot be built for a range of sizes",
                found=str(options.sizes),
                remedy=f"leave --sizes {options.sizes} out, or export the model with a dynamic size",
            )
        return
    sizes = options.sizes or (SizeRange(options.tile, options.tile, options.tile) if options.tile else None)
    if sizes is None:
        raise UsageError(
            "the graph has a dynamic size, and no sizes were given to build for",
            wanted=SIZES_FORM,
            remedy=f"give the sizes that the engine must accept with --sizes {SIZES_FORM}",
        )
    profile = builder.create_optimization_profile()
    channel_axis = 1 if options.io is FrameFormat.FLOAT_NCHW else 3
    for tensor in dynamic:
        channels = max(tuple(tensor.shape)[channel_axis], 0) or RGB
        shapes = (graph_shape(options.io, tile, channels) for tile in (sizes.minimum, sizes.optimum, sizes.maximum))
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)


def _cap_workspace(
    library: TensorRTLibrary,
    config: TrtIBuilderConfig,
    options: BuildOptions,
    free_bytes: int | None,
    memory: MemoryEstimate,
    on_event: OnEvent,
) -> int:
    """Limits the workspace, and reports the limit and the estimated memory of the build; returns the limit in bytes."""
    pool = library.trt.MemoryPoolType.WORKSPACE
    limit = options.workspace_bytes or (free_bytes // 2 if free_bytes is not None else None)
    if limit is not None:
        config.set_memory_pool_limit(pool, limit)
    workspace_bytes = int(config.get_memory_pool_limit(pool))
    reason = (
        "as requested" if options.workspace_bytes else f"half of the {(free_bytes or 0) / _MIB:,.0f} MiB that are free"
    )
    limited = (
        f"limited to {workspace_bytes / _MIB:,.0f} MiB ({reason})"
        if limit
        else "not limited, because the memory of the target is not known"
    )
    on_event(
        f"building needs at least {memory.build_bytes / _MIB:,.1f} MiB of device memory; the workspace is {limited}"
    )
    return workspace_bytes


def count_int8_layers(quantized: tuple[str, ...], layers: list[EngineLayer]) -> int | None:
    """Counts the `quantized` layers with INT8 inputs in the engine; None if the engine does not list one of them."""
    count = 0
    for name in quantized:
        matches = [layer for layer in layers if name in layer.name]
        if not matches or any(layer.kind == "Myelin" for layer in matches):
            return None
        count += any("Int8" in layer.input_types for layer in matches)
    return count


@contextmanager
def _timing_cache(config: TrtIBuilderConfig, options: BuildOptions, on_event: OnEvent) -> Iterator[None]:
    """Loads the timing cache before the build and saves it afterwards; a lock file lets one process at a time do so."""
    path = options.timing_cache
    if path is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _set_timing_cache(config, path.read_bytes() if path.is_file() else b""):
            on_event(f"{path} is damaged or was made by another TensorRT or for another GPU; it is replaced")
            _set_timing_cache(config, b"")
        yield
        with whole_file(path) as unfinished:
            unfinished.write_bytes(bytes(config.get_timing_cache().serialize()))


def _set_timing_cache(config: TrtIBuilderConfig, content: bytes) -> bool:
    """Whether TensorRT accepts this timing cache; it refuses one of another GPU or version."""
    cache = config.create_timing_cache(content)
    return cache is not None and config.set_timing_cache(cache, False)

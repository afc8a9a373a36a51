"""ONNX file -> TensorRT engine: strongly typed, for this machine's GPU or (TensorRT-RTX) for one that is not here."""

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
from sr_edge.runtimes.host_format import graph_shape
from sr_edge.runtimes.tensorrt_api import (
    Flavour,
    TensorRTLibrary,
    TrtBuilder,
    TrtIBuilderConfig,
    TrtINetworkDefinition,
    monitor_class,
    rtx_builder_config,
    rtx_compute_capabilities,
)
from sr_edge.runtimes.tensorrt_errors import CANCELLED, ParserIssue, build_failure, named_by_output, parser_failure
from sr_edge.runtimes.tensorrt_log import EngineLayer, Listener, process_log
from sr_edge.runtimes.tensorrt_network import MemoryNeed, NetworkTypes, memory_need, network_types
from sr_edge.runtimes.tensorrt_options import SIZES_FORM, BuildOptions, Compatibility, SizeRange
from sr_edge.whole_file import whole_file

StageProgress = Callable[[str, int, int], None]
OnEvent = Callable[[str], None]

_MIB = 2**20

LOOK_S = 0.2
"""How often the caller's thread looks up: a Ctrl-C that another thread takes, or that comes while it falls asleep, does
not wake it."""


@dataclass(frozen=True)
class BuiltEngine:
    """A finished engine and what is known about it.

    `int8_run` is how many of the quantized layers the engine runs in INT8; None where it does not tell, because they
    lie in a part compiled as a whole. `fell_back` are the layers that DLA left to the GPU. `workspace_bytes` is the
    cap of the scratch memory, `activation_bytes` what the engine really takes beside its weights.
    """

    plan: bytes
    types: NetworkTypes
    layers: tuple[EngineLayer, ...]
    int8_run: int | None
    fell_back: tuple[str, ...]
    need: MemoryNeed
    workspace_bytes: int
    activation_bytes: int
    weights_bytes: int
    build_s: float

    @property
    def reformats(self) -> int:
        """Layers that only change a tensor's layout, where the engine tells."""
        return sum("reformat" in layer.kind.lower() for layer in self.layers)


def build_engine(
    library: TensorRTLibrary,
    graph: Path,
    options: BuildOptions,
    *,
    free_bytes: int | None = None,
    on_device: Callable[[], AbstractContextManager[None]] = nullcontext,
    report: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> BuiltEngine:
    """Parses and compiles one ONNX file. Ctrl-C ends it at TensorRT's next step, with nothing written.

    Args:
        free_bytes: device memory that is free now; None where the GPU is not here or not known.
        on_device: makes the GPU to build for the calling thread's; entered in the thread that builds.
        report: gets (stage, done, total) from that thread.
        on_event: gets lines that a person should read before and after: caps, needs, what fell back.

    Raises:
        UsageError: an option that this library or graph does not take.
        PrecisionUnavailable: the graph is not of the precision asked for.
        RuntimeUnavailable: no GPU or driver where one is needed.
        EngineError: the parser or the builder refuses the graph, or memory ran out.
    """
    _require_options(library, options)
    progress = BuildProgress(report)
    monitored = threading.Event()  # TensorRT may keep Python from running: this thread must first be ready to cancel

    def work() -> BuiltEngine:
        monitored.wait()
        try:
            with on_device():
                return _build(library, graph, options, free_bytes, progress, on_event)
        except EngineError:
            progress.raise_failure()
            raise

    with ThreadPoolExecutor(1, thread_name_prefix="sr-edge-build") as pool:
        try:
            building = pool.submit(work)
            monitored.set()
            while not wait([building], timeout=LOOK_S).done:
                pass
            return building.result()
        except BaseException:
            progress.cancel()
            monitored.set()
            raise


class BuildProgress:
    """Watches a build from TensorRT's own phases; the first two levels are worth a bar."""

    def __init__(self, report: StageProgress) -> None:
        self._report = report
        self._steps: dict[str, int] = {}
        self._top: set[str] = set()
        self._cancelled = False
        self._failure: Exception | None = None

    def cancel(self) -> None:
        """Ends the build at its next step; from any thread."""
        self._cancelled = True

    def raise_failure(self) -> None:
        """Raises what `report` raised, which TensorRT must not see."""
        if self._failure is not None:
            raise self._failure

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        if parent is None:
            self._top.add(phase)
        if parent is None or parent in self._top:
            self._steps[phase] = steps
            self._tell(phase, 0)

    def step_complete(self, phase: str, step: int) -> bool:
        self._tell(phase, step + 1)
        return not self._cancelled

    def phase_finish(self, phase: str) -> None:
        self._tell(phase, self._steps.get(phase, 0))
        self._steps.pop(phase, None)

    def _tell(self, phase: str, done: int) -> None:
        if phase not in self._steps or self._cancelled:
            return
        try:
            self._report(phase, min(done, self._steps[phase]), self._steps[phase])
        except Exception as error:  # whatever it is, it may not unwind through TensorRT
            self._failure = error
            self._cancelled = True


def _require_options(library: TensorRTLibrary, options: BuildOptions) -> None:
    """Raises UsageError for what this library cannot do, before anything is started."""
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
    known = rtx_compute_capabilities(library)
    if options.compute_capability and options.compute_capability not in known:
        raise UsageError(
            f"{library.name} does not build for compute capability {options.compute_capability}",
            found=options.compute_capability,
            wanted=tuple(known),
            remedy=f"choose one of: {', '.join(known)}",
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
    progress: BuildProgress,
    on_event: OnEvent,
) -> BuiltEngine:
    started = time.perf_counter()
    with process_log(library).listen() as heard:
        builder = _new_builder(library, graph, heard)
        network = parse_network(library, builder, graph, heard)
        types = network_types(library.trt, network)
        types.require(options.precision, graph.name)
        need = memory_need(library.trt, network, graph.stat().st_size)
        config = builder.create_builder_config()
        fell_back = _configure(library, builder, network, config, options)
        workspace_bytes = _cap_workspace(library, config, options, free_bytes, need, on_event)
        config.progress_monitor = monitor_class(library.trt)(progress)
        with _timing_cache(config, options, on_event):
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                raise _failure(graph, library, heard, workspace_bytes + need.building_bytes, free_bytes)
    if fell_back:
        on_event(f"{len(fell_back)} of {types.layers} layers fell back from DLA to the GPU: {', '.join(fell_back)}")
    layers = heard.engine_layers()
    return BuiltEngine(
        plan=bytes(plan),
        types=types,
        layers=tuple(layers),
        int8_run=int8_layers_run(types.quantized, layers),
        fell_back=fell_back,
        need=need,
        workspace_bytes=workspace_bytes,
        activation_bytes=heard.stated_bytes("activation"),
        weights_bytes=heard.stated_bytes("weights"),
        build_s=time.perf_counter() - started,
    )


def _new_builder(library: TensorRTLibrary, graph: Path, heard: Listener) -> TrtBuilder:
    try:
        return library.trt.Builder(process_log(library).logger)
    except Exception as error:  # pybind says only that a factory gave nothing; TensorRT's log has the reason
        raise build_failure(graph.name, library.name, [*heard.complaints(), str(error)], 0, 0) from error


def _failure(
    graph: Path, library: TensorRTLibrary, heard: Listener, wanted_bytes: int, free_bytes: int | None
) -> SrEdgeError:
    errors = heard.complaints()
    if any(CANCELLED in text for text in errors):
        return EngineError(f"the build of {graph.name} was cancelled, and no engine was written", found=graph.name)
    return build_failure(graph.name, library.name, errors, wanted_bytes, free_bytes or 0)


def parse_network(library: TensorRTLibrary, builder: TrtBuilder, graph: Path, heard: Listener) -> TrtINetworkDefinition:
    """The strongly typed network of an ONNX file; raises EngineError naming node, operator, reason and way out."""
    trt = library.trt
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, process_log(library).logger)
    if parser.parse_from_file(str(graph)) and network.num_outputs:
        return network
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    issues = [ParserIssue(error.node(), error.node_name(), error.node_operator(), error.desc()) for error in errors]
    raise parser_failure(graph.name, library.name, [named_by_output(issue, heard.complaints()) for issue in issues])


def _configure(
    library: TensorRTLibrary,
    builder: TrtBuilder,
    network: TrtINetworkDefinition,
    config: TrtIBuilderConfig,
    options: BuildOptions,
) -> tuple[str, ...]:
    """Sets everything but memory and progress; returns the layers that DLA cannot run."""
    trt = library.trt
    config.clear_flag(trt.BuilderFlag.TF32)  # keeps 10 bits of the mantissa: that is not fp32
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
    """Puts every layer on DLA that it can run; returns the names of the others, which the GPU runs."""
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
    """One profile for the inputs whose size the graph leaves open."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    names = [tensor.name for tensor in inputs if -1 in tuple(tensor.shape)]
    if not names:
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
    shapes = [graph_shape(options.io, tile) for tile in (sizes.smallest, sizes.usual, sizes.largest)]
    for name in names:
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)


def _cap_workspace(
    library: TensorRTLibrary,
    config: TrtIBuilderConfig,
    options: BuildOptions,
    free_bytes: int | None,
    need: MemoryNeed,
    on_event: OnEvent,
) -> int:
    """Caps the scratch memory and says so, with what the build needs beside it; returns the cap in bytes."""
    pool = library.trt.MemoryPoolType.WORKSPACE
    cap = options.workspace_bytes or (free_bytes // 2 if free_bytes is not None else None)
    if cap is not None:
        config.set_memory_pool_limit(pool, cap)
    limit = int(config.get_memory_pool_limit(pool))
    why = "as asked" if options.workspace_bytes else f"half of the {(free_bytes or 0) / _MIB:,.0f} MiB that are free"
    capped = f"capped at {limit / _MIB:,.0f} MiB ({why})" if cap else "not capped: the target's memory is not known"
    on_event(f"building needs at least {need.building_bytes / _MIB:,.1f} MiB of device memory and workspace, {capped}")
    return limit


def int8_layers_run(quantized: tuple[str, ...], layers: list[EngineLayer]) -> int | None:
    """How many of the `quantized` layers read INT8 in the engine; None where one is in a part without inner layers."""
    ran = 0
    for name in quantized:
        found = [layer for layer in layers if name in layer.name]
        if not found or any(layer.kind == "Myelin" for layer in found):
            return None
        ran += any("Int8" in layer.input_types for layer in found)
    return ran


@contextmanager
def _timing_cache(config: TrtIBuilderConfig, options: BuildOptions, on_event: OnEvent) -> Iterator[None]:
    """Reads measured kernel times before the build and keeps the new ones after it; one process at a time."""
    path = options.timing_cache
    if path is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _use_times(config, path.read_bytes() if path.is_file() else b""):
            on_event(f"{path} is damaged, or of another TensorRT or GPU: begun anew")
            _use_times(config, b"")
        yield
        with whole_file(path) as unfinished:
            unfinished.write_bytes(bytes(config.get_timing_cache().serialize()))


def _use_times(config: TrtIBuilderConfig, content: bytes) -> bool:
    """Whether TensorRT takes these kernel times; it takes none that were measured elsewhere."""
    cache = config.create_timing_cache(content)
    return cache is not None and config.set_timing_cache(cache, False)

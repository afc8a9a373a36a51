"""Builds a strongly typed TensorRT engine from an ONNX file, for the local GPU or (TensorRT-RTX) for another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import EngineError, SrEdgeError
from sr_edge.runtimes.tensorrt.api import TensorRTLibrary, TrtBuilder, TrtINetworkDefinition, monitor_class
from sr_edge.runtimes.tensorrt.build_config import configure, limit_workspace, require_options, timing_cache
from sr_edge.runtimes.tensorrt.errors import CANCELLED, ParserIssue, build_failure, parser_failure, with_output_name
from sr_edge.runtimes.tensorrt.log import EngineLayer, Listener, process_log
from sr_edge.runtimes.tensorrt.network import MemoryEstimate, NetworkTypes, estimate_memory, network_types
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import OnEvent, StageProgress

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
    require_options(library, options)
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
        gpu_fallback_layers = configure(library, builder, network, config, options)
        workspace_bytes = limit_workspace(library, config, options, free_bytes, memory, on_event)
        config.progress_monitor = monitor_class(library.trt)(monitor)
        with timing_cache(config, options, on_event):
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


def count_int8_layers(quantized: tuple[str, ...], layers: list[EngineLayer]) -> int | None:
    """Counts the `quantized` layers with INT8 inputs in the engine; None if the engine does not list one of them."""
    count = 0
    for name in quantized:
        matches = [layer for layer in layers if name in layer.name]
        if not matches or any(layer.kind == "Myelin" for layer in matches):
            return None
        count += any("Int8" in layer.input_types for layer in matches)
    return count

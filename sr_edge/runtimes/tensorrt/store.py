"""Provides a serialized engine for a graph: from the cache if a matching one is stored, else by building it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bundle import sha256_of
from sr_edge.errors import UsageError
from sr_edge.runtimes.cuda.api import Gpu
from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary
from sr_edge.runtimes.tensorrt.builder import BuiltEngine, build_engine
from sr_edge.runtimes.tensorrt.cache import EngineCache, EngineKey, EngineNotes, StoredEngine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import OnEvent, Precision, StageProgress


@dataclass(frozen=True)
class EngineTarget:
    """The GPU to build for: one of this machine, or with TensorRT-RTX a compute capability.

    Attributes:
        compute_capability: that of the GPU, for example "8.6".
        device: name of the GPU; empty if it is not in this machine.
        free_bytes: free memory of the GPU; None if it is not in this machine.
        on_device: context manager that makes the GPU current.
    """

    compute_capability: str
    device: str
    free_bytes: int | None = None
    on_device: Callable[[], AbstractContextManager[None]] = nullcontext


def target_of_gpu(gpu: Gpu, free_bytes: int, on_device: Callable[[], AbstractContextManager[None]]) -> EngineTarget:
    """The target for a GPU of this machine."""
    return EngineTarget(gpu.compute_capability, gpu.name, free_bytes, on_device)


def target_of_capability(compute_capability: str) -> EngineTarget:
    """The target for a GPU that is not in this machine."""
    return EngineTarget(compute_capability, "")


def engine_key(library: TensorRTLibrary, model_sha256: str, options: BuildOptions, target: EngineTarget) -> EngineKey:
    """The cache key: TensorRT-RTX's engines run on any GPU of their compute capability, TensorRT's on one GPU model."""
    is_rtx = library.flavour is Flavour.RTX
    return EngineKey(
        model_sha256=model_sha256,
        options=replace(options, compute_capability=""),
        flavour=str(library.flavour),
        version=library.version,
        device="any" if is_rtx else target.device,
        compute_capability=target.compute_capability,
    )


def fetch_engine(
    library: TensorRTLibrary,
    graph: Path,
    options: BuildOptions,
    target: EngineTarget,
    cache: EngineCache,
    *,
    progress: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> StoredEngine:
    """The cached engine for this graph, these options and this target; it is built if the cache has none.

    Raises as `build_engine` and `EngineCache.fetch` do.
    """
    on_this_gpu = target.free_bytes is not None
    build_options = options if on_this_gpu else replace(options, compute_capability=target.compute_capability)

    def build() -> tuple[bytes, EngineNotes]:
        built = build_engine(
            library,
            graph,
            build_options,
            free_bytes=target.free_bytes,
            on_device=target.on_device,
            progress=progress,
            on_event=on_event,
        )
        return built.plan, notes_from_build(built)

    return cache.fetch(engine_key(library, sha256_of(graph), options, target), build, on_event)


def store_trusted_engine(
    library: TensorRTLibrary, graph: Path, options: BuildOptions, target: EngineTarget, cache: EngineCache, engine: Path
) -> StoredEngine:
    """Stores an engine that was built elsewhere in the cache. The user must trust it, because loading it runs its code.

    Raises:
        UsageError: the file does not exist or is empty.
    """
    if not engine.is_file():
        raise UsageError(
            f"no engine at {engine}",
            found=engine,
            wanted="an engine file",
            remedy="pass the file that you trust with --trust-engine",
        )
    plan = engine.read_bytes()
    if not plan:
        raise UsageError(
            f"the engine {engine} is empty",
            found=engine,
            wanted="a file with content",
            remedy="copy or build it again",
        )
    note = "built elsewhere and trusted; its precision is as requested and was not verified"
    float_precision = options.float_precision if options.precision is Precision.INT8 else options.precision
    key = engine_key(library, sha256_of(graph), options, target)
    return cache.adopt(key, plan, EngineNotes(options.precision, float_precision, note))


def notes_from_build(built: BuiltEngine) -> EngineNotes:
    """The properties of a build to store in the engine's record.

    The precision is that of the network's types, which TensorRT keeps in a strongly typed network. Only whether
    quantized layers use INT8 kernels is TensorRT's choice: where the engine lists fewer than half of them in INT8, the
    precision is that of the float layers.
    """
    quantized, int8_count = len(built.types.quantized), built.int8_layer_count
    ran, remarks = built.types.precision, []
    if quantized and int8_count is None:
        remarks.append("this engine does not list whether its quantized layers use INT8 kernels")
    if int8_count is not None and int8_count < quantized:
        remarks.append(f"{int8_count} of {quantized} quantized layers run in int8")
        ran = ran if 2 * int8_count >= quantized else built.types.float_precision
    float_layers = {kind: count for kind, count in built.types.counts.items() if kind is not Precision.INT8}
    if len(float_layers) > 1:
        remarks.append("float layers: " + ", ".join(f"{count} in {kind}" for kind, count in float_layers.items()))
    if built.gpu_fallback_layers:
        remarks.append(f"{len(built.gpu_fallback_layers)} of {built.types.layers} layers fall back from DLA to the GPU")
    return EngineNotes(
        ran=ran,
        float_precision=built.types.float_precision,
        note="; ".join(remarks),
        activation_bytes=built.activation_bytes,
        weights_bytes=built.weights_bytes,
        workspace_bytes=built.workspace_bytes,
        gpu_fallback_layers=built.gpu_fallback_layers,
    )

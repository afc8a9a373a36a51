"""From a graph to an engine that is ready to load: out of the cache where one fits, else built."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bundle import sha256_of
from sr_edge.errors import UsageError
from sr_edge.runtimes.cuda import Gpu
from sr_edge.runtimes.engine_cache import EngineCache, EngineKey, EngineNotes, StoredEngine
from sr_edge.runtimes.tensorrt_api import Flavour, TensorRTLibrary
from sr_edge.runtimes.tensorrt_builder import BuiltEngine, OnEvent, StageProgress, build_engine
from sr_edge.runtimes.tensorrt_options import BuildOptions
from sr_edge.spec import Precision


@dataclass(frozen=True)
class EngineTarget:
    """What to build for: a GPU of this machine and the way to it, or with TensorRT-RTX a compute capability.

    `free_bytes` is what the GPU has free now, None where it is not here.
    """

    compute_capability: str
    device: str
    free_bytes: int | None = None
    on_device: Callable[[], AbstractContextManager[None]] = nullcontext


def target_of_gpu(gpu: Gpu, free_bytes: int, on_device: Callable[[], AbstractContextManager[None]]) -> EngineTarget:
    """This machine's GPU."""
    return EngineTarget(gpu.compute_capability, gpu.name, free_bytes, on_device)


def target_elsewhere(compute_capability: str) -> EngineTarget:
    """A GPU that is not here."""
    return EngineTarget(compute_capability, "")


def engine_key(library: TensorRTLibrary, model_sha256: str, options: BuildOptions, target: EngineTarget) -> EngineKey:
    """TensorRT-RTX's engines run on every GPU of their compute capability, TensorRT's on one model of GPU only."""
    is_rtx = library.flavour is Flavour.RTX
    return EngineKey(
        model_sha256=model_sha256,
        options=replace(options, compute_capability=""),
        flavour=str(library.flavour),
        version=library.version,
        device="any" if is_rtx else target.device,
        compute_capability=target.compute_capability,
    )


def stored_engine(
    library: TensorRTLibrary,
    graph: Path,
    options: BuildOptions,
    target: EngineTarget,
    cache: EngineCache,
    *,
    report: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> StoredEngine:
    """The cache's engine for this graph, these options and this target; built where there is none that fits.

    Raises:
        As `build_engine` and `EngineCache.fetch` do.
    """
    on_this_gpu = target.free_bytes is not None
    chosen = options if on_this_gpu else replace(options, compute_capability=target.compute_capability)

    def build() -> tuple[bytes, EngineNotes]:
        built = build_engine(
            library,
            graph,
            chosen,
            free_bytes=target.free_bytes,
            on_device=target.on_device,
            report=report,
            on_event=on_event,
        )
        return built.plan, notes_of(built)

    return cache.fetch(engine_key(library, sha256_of(graph), options, target), build, on_event)


def adopted_engine(
    library: TensorRTLibrary, graph: Path, options: BuildOptions, target: EngineTarget, cache: EngineCache, engine: Path
) -> StoredEngine:
    """Takes an engine that was built elsewhere into the cache; the user vouches for it, for its code will run here.

    Raises:
        UsageError: there is no such file, or nothing in it.
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
    note = "built elsewhere and vouched for; its precision is as told, not verified"
    float_precision = options.float_precision if options.precision is Precision.INT8 else options.precision
    key = engine_key(library, sha256_of(graph), options, target)
    return cache.adopt(key, plan, EngineNotes(options.precision, float_precision, note))


def notes_of(built: BuiltEngine) -> EngineNotes:
    """What to remember of a build. Types are the network's: a strongly typed one leaves TensorRT no choice.

    What stays open is whether quantized layers use INT8 kernels; where the engine tells that fewer than half do, the
    rest's precision ran.
    """
    quantized, run = len(built.types.quantized), built.int8_run
    ran, remarks = built.types.precision, []
    if quantized and run is None:
        remarks.append("whether the quantized layers use INT8 kernels, this TensorRT does not tell")
    if run is not None and run < quantized:
        remarks.append(f"{run} of {quantized} quantized layers run in int8")
        ran = ran if 2 * run >= quantized else built.types.float_precision
    floats = {kind: count for kind, count in built.types.counts.items() if kind is not Precision.INT8}
    if len(floats) > 1:
        remarks.append("float layers: " + ", ".join(f"{count} in {kind}" for kind, count in floats.items()))
    if built.fell_back:
        remarks.append(f"{len(built.fell_back)} of {built.types.layers} layers fell back from DLA to the GPU")
    return EngineNotes(
        ran=ran,
        float_precision=built.types.float_precision,
        note="; ".join(remarks),
        activation_bytes=built.activation_bytes,
        weights_bytes=built.weights_bytes,
        workspace_bytes=built.workspace_bytes,
        fell_back=built.fell_back,
    )

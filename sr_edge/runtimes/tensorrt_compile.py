"""A bundle's graph -> an engine in the cache, on the device or (TensorRT-RTX) for a device elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bundle import Bundle
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes.cuda_providers import find_gpus, open_cuda
from sr_edge.runtimes.engine_cache import EngineCache, StoredEngine
from sr_edge.runtimes.registry import load_runtime, request_from_bundle
from sr_edge.runtimes.tensorrt_api import Flavour, load_library
from sr_edge.runtimes.tensorrt_builder import OnEvent, StageProgress
from sr_edge.runtimes.tensorrt_engines import (
    EngineTarget,
    adopted_engine,
    stored_engine,
    target_elsewhere,
    target_of_gpu,
)
from sr_edge.runtimes.tensorrt_options import BuildOptions
from sr_edge.spec import FrameFormat


@dataclass(frozen=True)
class CompileConfig:
    """What to compile: `options` with everything but the tile, which the bundle knows.

    `io` None takes the bundle's float graph where there is one. `trusted_engine` is an engine from elsewhere to take
    into the cache instead of building one.
    """

    flavour: Flavour
    options: BuildOptions
    io: FrameFormat | None = None
    device: str = "cuda"
    trusted_engine: Path | None = None

    def __post_init__(self) -> None:
        if re.fullmatch(r"cuda(:[0-9]+)?", self.device) is None:
            raise UsageError(
                f"{self.device!r} is not the name of a GPU",
                found=self.device,
                wanted=("cuda", "cuda:NUMBER"),
                remedy="pass cuda, or cuda:1 for the second GPU",
            )

    @property
    def gpu_index(self) -> int:
        return int(self.device.partition(":")[2] or 0)


def compile_bundle(
    bundle: Bundle,
    config: CompileConfig,
    cache: EngineCache | None = None,
    *,
    report: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> StoredEngine:
    """Builds the engine of a bundle, or finds it built already.

    Raises:
        RuntimeUnavailable: TensorRT, a GPU or its driver is absent.
        PrecisionUnavailable: the bundle has no graph of that precision.
        EngineError: the graph is refused, memory ran out, or the engine in the cache is not this cache's own.
    """
    name, options = str(config.flavour), config.options
    load_runtime(name)
    request = request_from_bundle(
        bundle, name, options.precision, config.device, float_precision=options.float_precision, io=config.io
    )
    options = replace(options, tile=request.tile, io=request.io)
    library = load_library(config.flavour)
    target = _target(config)
    store = cache or EngineCache()
    if config.trusted_engine is not None:
        return adopted_engine(library, request.artifact, options, target, store, config.trusted_engine)
    return stored_engine(library, request.artifact, options, target, store, report=report, on_event=on_event)


def flavour_named(name: str) -> Flavour:
    """Raises UnknownNameError."""
    try:
        return Flavour(name)
    except ValueError:
        raise UnknownNameError("runtime that compiles engines", name, [str(flavour) for flavour in Flavour]) from None


def _target(config: CompileConfig) -> EngineTarget:
    """The GPU of this machine, unless another's compute capability was named; raises RuntimeUnavailable."""
    if config.options.compute_capability:
        return target_elsewhere(config.options.compute_capability)
    find_gpus()
    cuda = open_cuda(config.gpu_index)
    with cuda.current():
        return target_of_gpu(cuda.gpu, cuda.free_bytes(), cuda.current)

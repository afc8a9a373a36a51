"""Compiles a bundle's graph to a TensorRT engine in the cache, for the local GPU or (TensorRT-RTX) for another one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bundle import Bundle
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes.cuda.providers import find_gpus, open_cuda
from sr_edge.runtimes.registry import load_runtime, request_from_bundle
from sr_edge.runtimes.tensorrt.api import Flavour, load_library
from sr_edge.runtimes.tensorrt.cache import EngineCache, StoredEngine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.runtimes.tensorrt.store import (
    EngineTarget,
    fetch_engine,
    store_trusted_engine,
    target_of_capability,
    target_of_gpu,
)
from sr_edge.spec import FrameFormat, OnEvent, StageProgress, TileSpec


@dataclass(frozen=True)
class CompileConfig:
    """What to compile.

    Attributes:
        flavour: the library.
        options: build options; tile and frame format are taken from the bundle.
        io: frame format of the graph; None prefers float frames.
        device: "cuda", or "cuda:1" for the second GPU.
        trusted_engine: an engine built elsewhere that is stored in the cache instead of building one.
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
        """Index of the GPU among those of this machine."""
        return int(self.device.partition(":")[2] or 0)


def compile_bundle(
    bundle: Bundle,
    config: CompileConfig,
    cache: EngineCache | None = None,
    *,
    tile: TileSpec | None = None,
    progress: StageProgress = lambda stage, done, total: None,
    on_event: OnEvent = lambda line: None,
) -> StoredEngine:
    """Builds the engine of a bundle, or takes it from the cache.

    Args:
        bundle: an opened bundle.
        config: what to compile.
        cache: where engines are stored; None for the default folder.
        tile: one of the tiles of the bundle; None for the main one.
        progress: called with (stage, steps done, steps in all).
        on_event: called with messages for the user.

    Raises:
        RuntimeUnavailable: TensorRT, a GPU or its driver is not available.
        PrecisionUnavailable: the bundle has no graph of that precision.
        EngineError: TensorRT rejects the graph, memory ran out, or the cached engine was not built by this cache.
    """
    name, options = str(config.flavour), config.options
    load_runtime(name)
    request = request_from_bundle(
        bundle,
        name,
        options.precision,
        config.device,
        float_precision=options.float_precision,
        io=config.io,
        tile=tile,
    )
    options = replace(options, tile=request.tile, io=request.io)
    library = load_library(config.flavour)
    target = _target(config)
    store = cache or EngineCache()
    if config.trusted_engine is not None:
        return store_trusted_engine(library, request.artifact, options, target, store, config.trusted_engine)
    return fetch_engine(library, request.artifact, options, target, store, progress=progress, on_event=on_event)


def flavour_named(name: str) -> Flavour:
    """The flavour of that name; raises UnknownNameError."""
    try:
        return Flavour(name)
    except ValueError:
        raise UnknownNameError("runtime that compiles engines", name, [str(flavour) for flavour in Flavour]) from None


def _target(config: CompileConfig) -> EngineTarget:
    """The local GPU, unless the options name a compute capability; raises RuntimeUnavailable."""
    if config.options.compute_capability:
        return target_of_capability(config.options.compute_capability)
    find_gpus()
    cuda = open_cuda(config.gpu_index)
    with cuda.current():
        return target_of_gpu(cuda.gpu, cuda.free_bytes(), cuda.current)

"""Configures a TensorRT build: checks of the options, builder flags, DLA, profile, workspace and timing cache."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.files.whole_file import whole_file
from sr_edge.runtimes.engine.host_format import graph_shape
from sr_edge.runtimes.tensorrt.api import (
    Flavour,
    TensorRTLibrary,
    TrtBuilder,
    TrtIBuilderConfig,
    TrtINetworkDefinition,
    rtx_builder_config,
    rtx_compute_capabilities,
)
from sr_edge.runtimes.tensorrt.network import MemoryEstimate
from sr_edge.runtimes.tensorrt.options import SIZES_FORM, BuildOptions, Compatibility, SizeRange
from sr_edge.spec import RGB, FrameFormat, OnEvent

_MIB = 2**20


def require_options(library: TensorRTLibrary, options: BuildOptions) -> None:
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


def configure(
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
    return () if options.dla_core is None else _use_dla(library, builder, network, config, options.dla_core)


def _use_dla(
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


def limit_workspace(
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


@contextmanager
def timing_cache(config: TrtIBuilderConfig, options: BuildOptions, on_event: OnEvent) -> Iterator[None]:
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

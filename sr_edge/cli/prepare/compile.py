"""`sr-edge compile`: builds a bundle's TensorRT engine ahead of the first session."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import AnyIoOption, BundleArgument, FloatPrecisionOption, JsonOption, PrecisionOption
from sr_edge.cli.terminal import print_line
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.spec import Precision

if TYPE_CHECKING:
    from sr_edge.runtimes.tensorrt.cache import StoredEngine

_MIB = 2**20

TensorRTRuntimeOption = Annotated[str, typer.Option(help="Runtime to build for: tensorrt or tensorrt-rtx.")]
GpuOption = Annotated[str, typer.Option(help="GPU to build for: cuda, or cuda:1 for the second.")]
ComputeCapabilityOption = Annotated[
    str,
    typer.Option(
        metavar="X.Y",
        help="Build for this compute capability instead, for example 8.6 (tensorrt-rtx only).",
        show_default=False,
    ),
]
DlaOption = Annotated[
    int | None,
    typer.Option(
        metavar="CORE", help="Run on this DLA core of a Jetson; requires --precision fp16.", show_default=False
    ),
]
WorkspaceOption = Annotated[
    int | None,
    typer.Option(
        metavar="MIB",
        min=1,
        help="Limit of the builder's workspace in MiB. Default: half of the free GPU memory.",
        show_default=False,
    ),
]
OptimizationLevelOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=5,
        help="TensorRT's builder optimization level. Higher levels take longer to build and may give faster engines.",
    ),
]
SizesOption = Annotated[
    str,
    typer.Option(
        metavar="MIN,OPT,MAX",
        help="Input sizes of the optimization profile for a dynamic graph, for example 64x64,96x96,128x128.",
        show_default=False,
    ),
]
CompatibleOption = Annotated[
    list[str],
    typer.Option(
        metavar="version|hardware",
        help="Build an engine that also runs with later TensorRT versions, or on other GPUs. Repeatable.",
        show_default=False,
    ),
]
TimingCacheOption = Annotated[
    Path | None, typer.Option(help="TensorRT timing cache to reuse and extend (tensorrt only).", show_default=False)
]
TrustEngineOption = Annotated[
    Path | None,
    typer.Option(
        help="Use this engine file instead of building one. Code that it contains is executed.", show_default=False
    ),
]
EngineOutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Also copy the engine to this file.", show_default=False, readable=False),
]


def compile(  # the command's name
    bundle: BundleArgument,
    runtime: TensorRTRuntimeOption = "tensorrt",
    precision: PrecisionOption = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    io: AnyIoOption = None,
    device: GpuOption = "cuda",
    compute_capability: ComputeCapabilityOption = "",
    dla: DlaOption = None,
    workspace: WorkspaceOption = None,
    optimization_level: OptimizationLevelOption = 3,
    sizes: SizesOption = "",
    compatible: CompatibleOption = [],  # noqa: B006  # typer copies it; it wants a list here
    timing_cache: TimingCacheOption = None,
    trust_engine: TrustEngineOption = None,
    out: EngineOutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a bundle's TensorRT engines for this GPU, one for each of its tiles."""
    from sr_edge.cli.output import during, progress_on_stderr, result_on_stdout

    for file in (out, timing_cache):
        if file is not None:
            require_output_file(file)
    with result_on_stdout(as_json) as show:
        from sr_edge.model_sources import open_deployed
        from sr_edge.runtimes.compile import CompileConfig, compile_bundle, flavour_named
        from sr_edge.runtimes.registry import tiles_for
        from sr_edge.runtimes.tensorrt.options import BuildOptions, SizeRange, compatibility_named

        options = BuildOptions(
            precision=precision,
            float_precision=float_precision if precision is Precision.INT8 else Precision.FP32,
            sizes=SizeRange.parse(sizes) if sizes else None,
            workspace_bytes=workspace * _MIB if workspace else None,
            optimization_level=optimization_level,
            compute_capability=compute_capability,
            dla_core=dla,
            compatible=tuple(map(compatibility_named, compatible)),
            timing_cache=timing_cache,
        )
        config = CompileConfig(flavour_named(runtime), options, io, device, trust_engine)
        stage = f"building an engine for {runtime}"
        with progress_on_stderr() as progress, during(progress, stage), open_deployed(bundle) as opened:
            stored = compile_bundle(opened, config, progress=progress, on_event=print_line)
            tiles = () if trust_engine else tiles_for(opened, runtime, precision, options.float_precision, io)[1:]
            further = [
                compile_bundle(opened, config, tile=tile, progress=progress, on_event=print_line) for tile in tiles
            ]
        if out is not None:
            with whole_file(out) as unfinished:
                shutil.copyfile(stored.path, unfinished)
        document = {**_document(stored), "further_tiles": list(map(_document, further))}
        show(document, "\n\n".join(map(_readable, (stored, *further))))


def _document(stored: StoredEngine) -> dict[str, object]:
    return {"engine": stored.path, "was_built": stored.was_built, "record": stored.record}


def _readable(stored: StoredEngine) -> str:
    key, notes = stored.record.key, stored.record.notes
    where = f"{key.device if key.device != 'any' else 'GPUs'} of compute capability {key.compute_capability}"
    memory = (notes.activation_bytes + notes.weights_bytes) / _MIB
    lines = {
        "engine": f"{stored.path}" + ("" if stored.was_built else " (from the cache)"),
        "for": f"{where}, {key.flavour} {key.version}",
        "precision": f"{notes.ran}, float layers in {notes.float_precision}"
        + (f" ({notes.note})" if notes.note else ""),
        "size": f"{stored.record.size_bytes / _MIB:.1f} MiB, at least {memory:.1f} MiB of device memory when it runs",
        "fallback": ", ".join(notes.gpu_fallback_layers) or "none",
    }
    return "\n".join(f"{name:11}{value}" for name, value in lines.items())

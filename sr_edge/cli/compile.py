"""`sr-edge compile`: builds a bundle's TensorRT engine ahead of the first session."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import BundlePath, Json
from sr_edge.spec import FrameFormat, Precision
from sr_edge.whole_file import require_output_file, whole_file

if TYPE_CHECKING:
    from sr_edge.runtimes.engine_cache import StoredEngine

_MIB = 2**20


def compile(  # the command's name
    bundle: BundlePath,
    runtime: Annotated[str, typer.Option(help="Runtime to compile for: tensorrt or tensorrt-rtx.")] = "tensorrt",
    precision: Annotated[
        Precision, typer.Option(help="Precision of convolutions and matrix multiplications.")
    ] = Precision.FP32,
    float_precision: Annotated[
        Precision, typer.Option(help="Precision of the other operators of an INT8 graph.")
    ] = Precision.FP32,
    io: Annotated[
        FrameFormat | None, typer.Option(help="Frame format of the graph; float is preferred.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="Device: cuda, or cuda:1 for the second GPU.")] = "cuda",
    compute_capability: Annotated[
        str,
        typer.Option(metavar="8.6", help="Compute capability of a GPU elsewhere (tensorrt-rtx).", show_default=False),
    ] = "",
    dla: Annotated[
        int | None, typer.Option(metavar="CORE", help="DLA core of a Jetson to run on (fp16 only).", show_default=False)
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            metavar="MIB",
            min=1,
            help="Limit of the scratch memory; by default half of the free memory.",
            show_default=False,
        ),
    ] = None,
    optimization_level: Annotated[
        int, typer.Option(min=0, max=5, help="Builder optimization level; higher levels take longer.")
    ] = 3,
    sizes: Annotated[
        str,
        typer.Option(
            metavar="SMALLEST,USUAL,LARGEST", help="Range of tile sizes for a dynamic graph.", show_default=False
        ),
    ] = "",
    compatible: Annotated[
        list[str],
        typer.Option(
            metavar="version|hardware",
            help="Also run with other TensorRT versions, or on other GPUs.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  # typer copies it; it wants a list here
    timing_cache: Annotated[
        Path | None, typer.Option(help="Timing cache to read and extend (tensorrt).", show_default=False)
    ] = None,
    trust_engine: Annotated[
        Path | None,
        typer.Option(help="Store this engine instead of building one; its code will run here.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also copy the engine to this file.", show_default=False, readable=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a bundle's TensorRT engine on this device."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    for file in (out, timing_cache):
        if file is not None:
            require_output_file(file)
    with result_on_stdout(as_json) as show:
        from sr_edge.bundle import open_bundle
        from sr_edge.runtimes.tensorrt_compile import CompileConfig, compile_bundle, flavour_named
        from sr_edge.runtimes.tensorrt_options import BuildOptions, SizeRange, compatibility_named

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
        with progress_on_stderr() as progress, open_bundle(bundle) as opened:
            stored = compile_bundle(opened, config, progress=progress, on_event=_print_line)
        if out is not None:
            with whole_file(out) as unfinished:
                shutil.copyfile(stored.path, unfinished)
        show(_document(stored), _readable(stored))


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")


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

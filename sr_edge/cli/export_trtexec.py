"""`sr-edge export-trtexec`: the trtexec command for a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import BundlePath, FloatPrecisionOption, Io, Json, OnePrecision
from sr_edge.errors import UsageError
from sr_edge.spec import FrameFormat, Precision
from sr_edge.whole_file import require_output_file, whole_file

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle
    from sr_edge.export.served_graph import ServedGraph


def export_trtexec(
    bundle: BundlePath,
    precision: OnePrecision = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    io: Io = FrameFormat.FLOAT_NCHW,
    target: Annotated[
        str, typer.Option("--for", metavar="tensorrt-VERSION", help="The TensorRT that trtexec belongs to.")
    ] = "tensorrt-10.3",
    graph: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the graph to this .onnx file and name it there.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="Cap of the builder's memory.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the trtexec command for a bundle."""
    from sr_edge.cli.output import result_on_stdout

    if graph is not None:
        require_output_file(graph)
        if bundle.resolve() in graph.resolve().parents:
            raise UsageError(
                f"{graph} is inside the bundle, whose verified files must not change",
                found=graph,
                wanted=f"a path outside {bundle}",
                remedy="write the graph to another folder with -o",
            )
    with result_on_stdout(as_json) as show:
        from sr_edge.bundle import open_bundle
        from sr_edge.export.checks.rules import require_deployable
        from sr_edge.export.checks.tensorrt_releases import find_release
        from sr_edge.export.served_graph import load_served_graph
        from sr_edge.export.serving import ServingBackend
        from sr_edge.export.trtexec import TrtexecFiles, build_trtexec_command

        release = find_release(target)
        with open_bundle(bundle) as opened:
            served = load_served_graph(opened, ServingBackend.TENSORRT, precision, float_precision, io)
            require_deployable(served.model, [target], static=False, intended=[target])
            path = _written(served, graph) if graph is not None else _in_bundle(opened, served)
            files = TrtexecFiles(path, Path(f"{path.stem}.plan"), Path("timing.cache"))
            words = build_trtexec_command(served.model, files, release, opened.manifest.tile, io, workspace)
        show({"command": words}, shlex.join(words))


def _written(served: ServedGraph, path: Path) -> Path:
    with whole_file(path) as unfinished:
        unfinished.write_bytes(served.data)
    return path


def _in_bundle(bundle: Bundle, served: ServedGraph) -> Path:
    """Where trtexec finds the graph without our help; raises UsageError where it cannot."""
    if not bundle.path.is_dir():
        raise UsageError(
            f"{bundle.path} is an archive, which trtexec cannot read",
            found=bundle.path,
            wanted="a folder",
            remedy="write the graph to a file with -o model.onnx",
        )
    if not served.is_as_stored:
        raise UsageError(
            f"{bundle.path} has that graph for {served.artifact.io} frames only, not for {served.io} frames",
            found=str(served.io),
            wanted=str(served.artifact.io),
            remedy="write the converted graph to a file with -o model.onnx",
        )
    return bundle.path / served.artifact.file

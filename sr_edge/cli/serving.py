"""`sr-edge export-triton` and `export-trtexec`: hands a bundle to Triton Inference Server or to trtexec."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import BundlePath, FloatPrecisionOption, Io, Json, OnePrecision
from sr_edge.errors import UsageError
from sr_edge.export.serving import InstanceKind, ServedBy, TritonPlan
from sr_edge.spec import FrameFormat, Precision
from sr_edge.whole_file import require_output_file, whole_file

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle
    from sr_edge.export.served_graph import ServedGraph
    from sr_edge.export.triton import TritonModel


def export_triton(
    bundle: BundlePath,
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository; made if absent.", show_default=False)
    ],
    backend: Annotated[ServedBy, typer.Option(help="What runs the model in the server.")] = ServedBy.ONNXRUNTIME,
    precision: OnePrecision = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    io: Io = FrameFormat.FLOAT_NCHW,
    engine: Annotated[
        Path | None, typer.Option(help="For tensorrt: the plan, built for the server's GPU.", show_default=False)
    ] = None,
    kind: Annotated[
        InstanceKind | None, typer.Option(help="Left out: gpu where the backend has it.", show_default=False)
    ] = None,
    instances: Annotated[int, typer.Option(min=1, help="Requests that run at once.")] = 1,
    as_json: Json = False,
) -> None:
    """Hand a bundle to a Triton Inference Server."""
    from sr_edge.cli.output import result_on_stdout

    plan = TritonPlan(backend, precision, float_precision, io, kind, instances, engine)
    with result_on_stdout(as_json) as show:
        from sr_edge.bundle import open_bundle
        from sr_edge.export.triton import write_triton_model

        with open_bundle(bundle) as opened:
            model = write_triton_model(opened, repository, plan)
        show(model, _triton_text(model, repository))


def _triton_text(model: TritonModel, repository: Path) -> str:
    return f"{model.folder}: {model.name}, from {model.graph}; tritonserver --model-repository={repository}"


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
        from sr_edge.export.served_graph import served_graph
        from sr_edge.export.trtexec import TrtexecFiles, trtexec_command

        release = find_release(target)
        with open_bundle(bundle) as opened:
            served = served_graph(opened, ServedBy.TENSORRT, precision, float_precision, io)
            require_deployable(served.model, [target], static=False, intended=[target])
            path = _written(served, graph) if graph is not None else _in_bundle(opened, served)
            files = TrtexecFiles(path, Path(f"{path.stem}.plan"), Path("timing.cache"))
            words = trtexec_command(served.model, files, release, opened.manifest.tile, io, workspace)
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

"""`sr-edge export-triton` and `export-trtexec`: hands a bundle to Triton Inference Server or to trtexec."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.checks import require_suffix
from sr_edge.cli.options import BundleArgument, FloatPrecisionOption, IoOption, JsonOption, PrecisionOption
from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.serving.layout import InstanceKind, ServingBackend, TritonOptions
from sr_edge.spec import FrameFormat, Precision

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle
    from sr_edge.serving.served_graph import ServedGraph
    from sr_edge.serving.triton import TritonModel


def export_triton(
    bundle: BundleArgument,
    repository: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Model repository to write to; created if it does not exist.", show_default=False
        ),
    ],
    backend: Annotated[
        ServingBackend, typer.Option(help="Triton backend that runs the model.")
    ] = ServingBackend.ONNXRUNTIME,
    precision: PrecisionOption = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    io: IoOption = FrameFormat.FLOAT_NCHW,
    engine: Annotated[
        Path | None,
        typer.Option(
            help="TensorRT engine, built for the GPU of the server; required for --backend tensorrt.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        InstanceKind | None,
        typer.Option(
            help="Device of the model instances. Default: gpu if the backend supports it.", show_default=False
        ),
    ] = None,
    instances: Annotated[
        int, typer.Option(min=1, help="Number of model instances, which serve requests concurrently.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle to a Triton model repository."""
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr

    plan = TritonOptions(backend, precision, float_precision, io, kind, instances, engine)
    with result_on_stdout(as_json) as show:
        from sr_edge.model_sources import open_deployed
        from sr_edge.serving.triton import write_triton_model

        stage = f"writing {bundle.name}"
        with open_deployed(bundle) as opened, stage_on_stderr(stage):
            model = write_triton_model(opened, repository, plan)
        show(model, _triton_text(model, repository))


def _triton_text(model: TritonModel, repository: Path) -> str:
    return f"{model.folder}: {model.name}, from {model.graph}; tritonserver --model-repository={repository}"


def export_trtexec(
    bundle: BundleArgument,
    precision: PrecisionOption = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    io: IoOption = FrameFormat.FLOAT_NCHW,
    target: Annotated[
        str, typer.Option("--for", metavar="tensorrt-VERSION", help="TensorRT release that trtexec belongs to.")
    ] = "tensorrt-10.3",
    graph: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the graph to this .onnx file, which the command then names. Default: use the file in the "
            "bundle.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="MIB", help="Limit of the builder's workspace in MiB. Default: no limit.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the trtexec command that builds a bundle's engine."""
    from sr_edge.cli.output import result_on_stdout

    if graph is not None:
        require_suffix(graph, ".onnx")
        require_output_file(graph)
    with result_on_stdout(as_json) as show:
        from sr_edge.export.checks.rules import require_deployable
        from sr_edge.export.checks.tensorrt_releases import find_release
        from sr_edge.model_sources import open_deployed
        from sr_edge.serving.served_graph import load_served_graph
        from sr_edge.serving.trtexec import TrtexecFiles, build_trtexec_command

        release = find_release(target)
        with open_deployed(bundle) as opened:
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
            f"{bundle.path} contains this graph only with {served.artifact.io} input, not with {served.io}",
            found=str(served.io),
            wanted=str(served.artifact.io),
            remedy="use -o model.onnx to write a converted graph",
        )
    return bundle.path / served.artifact.file

"""`sr-edge export-triton`: a bundle as a model in a Triton Inference Server repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import BundlePath, FloatPrecisionOption, Io, Json, OnePrecision
from sr_edge.export.serving import InstanceKind, ServingBackend, TritonOptions
from sr_edge.spec import FrameFormat, Precision

if TYPE_CHECKING:
    from sr_edge.export.triton import TritonModel


def export_triton(
    bundle: BundlePath,
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository; made if absent.", show_default=False)
    ],
    backend: Annotated[
        ServingBackend, typer.Option(help="What runs the model in the server.")
    ] = ServingBackend.ONNXRUNTIME,
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

    plan = TritonOptions(backend, precision, float_precision, io, kind, instances, engine)
    with result_on_stdout(as_json) as show:
        from sr_edge.bundle import open_bundle
        from sr_edge.export.triton import write_triton_model

        with open_bundle(bundle) as opened:
            model = write_triton_model(opened, repository, plan)
        show(model, _readable(model, repository))


def _readable(model: TritonModel, repository: Path) -> str:
    return f"{model.folder}: {model.name}, from {model.graph}; tritonserver --model-repository={repository}"

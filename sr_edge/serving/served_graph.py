"""Loads the graph of a bundle that another program will run, converted to the frame format that it wants."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx

from sr_edge.bundle import Artifact, ArtifactKind, Bundle
from sr_edge.errors import PrecisionUnavailable
from sr_edge.export.checks.targets import TargetLibrary, activation_types_read_by
from sr_edge.export.graph.metadata import read_metadata, write_metadata
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.serving.layout import ServingBackend
from sr_edge.spec import FrameFormat, Precision, member_of


@dataclass(frozen=True)
class ServedGraph:
    """A graph for another program.

    Attributes:
        artifact: The entry of the bundle from which the graph was loaded.
        io: The frame format of the graph, which may differ from that of the artifact.
        model: The ONNX graph.
        data: The bytes of its file.
    """

    artifact: Artifact
    io: FrameFormat
    model: onnx.ModelProto
    data: bytes

    @property
    def is_as_stored(self) -> bool:
        """Whether `data` is the unchanged file of the bundle."""
        return self.io is self.artifact.io


def load_served_graph(
    bundle: Bundle,
    backend: ServingBackend | str,
    precision: Precision | str,
    float_precision: Precision | str,
    io: FrameFormat | str,
) -> ServedGraph:
    """Loads a graph from an open bundle; the conversion from uint8 is added where the bundle has float frames only.

    Args:
        bundle: The open bundle.
        backend: The library that runs the graph, which determines the type of INT8 activations.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators of an INT8 graph; ignored for other precisions.
        io: Float32 NCHW in [0, 1], or uint8 NHWC.

    Raises:
        PrecisionUnavailable: The bundle has no such graph.
        BundleError: The bundle is damaged.
    """
    backend = member_of(ServingBackend, backend, "backend")
    precision = member_of(Precision, precision, "precision")
    float_precision = member_of(Precision, float_precision, "float precision")
    io = member_of(FrameFormat, io, "frame format")
    formats = (io, FrameFormat.FLOAT_NCHW) if io is FrameFormat.UINT8_NHWC else (io,)
    artifact = next(filter(None, (_find(bundle, backend, precision, float_precision, form) for form in formats)), None)
    if artifact is None:
        raise _no_graph(bundle, backend, precision, float_precision)
    path = bundle.file(artifact)
    model = read_onnx(path)
    if artifact.io is io:
        return ServedGraph(artifact, io, model, path.read_bytes())
    wrapped = wrap_uint8(model).model
    write_metadata(wrapped, dataclasses.replace(read_metadata(model), io=io))
    return ServedGraph(artifact, io, wrapped, wrapped.SerializeToString(deterministic=True))


def _find(
    bundle: Bundle, backend: ServingBackend, precision: Precision, float_precision: Precision, io: FrameFormat
) -> Artifact | None:
    artifacts = bundle.manifest.artifacts_of()
    if precision is Precision.INT8:
        activation_types = activation_types_read_by(TargetLibrary(backend.value))
        return first_fitting(
            artifacts, ArtifactKind.ONNX, precision, float_precision, activation_types, io, backend.value
        )
    return first_fitting(artifacts, ArtifactKind.ONNX, precision, io=io, runtime=backend.value)


def _no_graph(
    bundle: Bundle, backend: ServingBackend, precision: Precision, float_precision: Precision
) -> PrecisionUnavailable:
    description = (
        f"{precision} graph with other operators in {float_precision}"
        if precision is Precision.INT8
        else f"{precision} graph"
    )
    files = tuple(item.file for item in bundle.manifest.artifacts if item.kind is ArtifactKind.ONNX)
    return PrecisionUnavailable(
        f"{bundle.path.name} has no {description} for {backend}, only {', '.join(files)}",
        found=str(precision),
        wanted=files,
        remedy=f"choose another precision, or deploy the network again with {precision}",
    )

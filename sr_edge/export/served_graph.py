"""The graph of a bundle that another program is to run, in the frames that it is to take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx

from sr_edge.bundle import Artifact, ArtifactKind, Bundle
from sr_edge.errors import PrecisionUnavailable
from sr_edge.export.frame_io import wrap_uint8
from sr_edge.export.graph import read_onnx
from sr_edge.export.metadata import read_metadata, write_metadata
from sr_edge.export.serving import ServedBy
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.spec import ActivationType, FrameFormat, Precision

_ACTIVATION_TYPES = {
    ServedBy.ONNXRUNTIME: (ActivationType.INT8, ActivationType.UINT8),
    ServedBy.TENSORRT: (ActivationType.INT8,),
    ServedBy.OPENVINO: (ActivationType.UINT8,),
}


@dataclass(frozen=True)
class ServedGraph:
    """A graph and the bytes of its file; `artifact` is what it was made from, `io` the frames that it takes."""

    artifact: Artifact
    io: FrameFormat
    model: onnx.ModelProto
    data: bytes

    @property
    def is_as_stored(self) -> bool:
        """Whether these are the bytes of the bundle's own file."""
        return self.io is self.artifact.io


def served_graph(
    bundle: Bundle, library: ServedBy, precision: Precision, float_precision: Precision, io: FrameFormat
) -> ServedGraph:
    """Takes the graph from an opened bundle; where that has it for float frames only, uint8 is put around it.

    Args:
        library: decides the activation type of an INT8 graph.
        precision: of convolutions and matmuls.
        float_precision: of all else in an INT8 graph; of no meaning to others.
        io: float32 NCHW in [0, 1], or uint8 NHWC.

    Raises:
        PrecisionUnavailable: the bundle has no such graph.
        BundleError: the bundle is damaged.
    """
    formats = (io, FrameFormat.FLOAT_NCHW) if io is FrameFormat.UINT8_NHWC else (io,)
    artifact = next(filter(None, (_find(bundle, library, precision, float_precision, form) for form in formats)), None)
    if artifact is None:
        raise _no_graph(bundle, library, precision, float_precision)
    path = bundle.file(artifact)
    model = read_onnx(path)
    if artifact.io is io:
        return ServedGraph(artifact, io, model, path.read_bytes())
    wrapped = wrap_uint8(model)
    write_metadata(wrapped, dataclasses.replace(read_metadata(model), io=io))
    return ServedGraph(artifact, io, wrapped, wrapped.SerializeToString(deterministic=True))


def _find(
    bundle: Bundle, library: ServedBy, precision: Precision, float_precision: Precision, io: FrameFormat
) -> Artifact | None:
    artifacts = bundle.manifest.artifacts
    if precision is Precision.INT8:
        return first_fitting(artifacts, ArtifactKind.ONNX, precision, float_precision, _ACTIVATION_TYPES[library], io)
    return first_fitting(artifacts, ArtifactKind.ONNX, precision, io=io)


def _no_graph(
    bundle: Bundle, library: ServedBy, precision: Precision, float_precision: Precision
) -> PrecisionUnavailable:
    asked = (
        f"{precision} graph with other operators in {float_precision}"
        if precision is Precision.INT8
        else f"{precision} graph"
    )
    files = tuple(item.file for item in bundle.manifest.artifacts if item.kind is ArtifactKind.ONNX)
    return PrecisionUnavailable(
        f"{bundle.path.name} has no {asked} for {library}, only {', '.join(files)}",
        found=str(precision),
        wanted=files,
        remedy=f"choose another precision, or deploy the network again with {precision}",
    )

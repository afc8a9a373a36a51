"""Selects the artifact of a bundle that a runtime opens."""

from __future__ import annotations

from collections.abc import Sequence

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.spec import ActivationType, FrameFormat, Precision


def first_fitting(
    artifacts: Sequence[Artifact],
    kind: ArtifactKind,
    precision: Precision,
    float_precision: Precision | None = None,
    activation_types: Sequence[ActivationType | None] = (None,),
    io: FrameFormat | None = None,
    runtime: str = "",
) -> Artifact | None:
    """The first artifact of that kind and precision: one that was made for the runtime, or else one for all runtimes.

    Args:
        artifacts: those of a bundle.
        kind: ONNX file or weights.
        precision: that of the convolutions and matrix multiplications.
        float_precision: that of the other operators of an INT8 graph; None matches any.
        activation_types: types of quantized activations, the preferred one first; None in it stands for a float graph.
        io: frame format of the graph; None prefers float frames to uint8 frames.
        runtime: the runtime that opens it; empty where only files for all runtimes are wanted.
    """
    formats = (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC) if io is None else (io,)
    usable = [artifact for artifact in artifacts if runtime in artifact.runtimes]
    usable += [artifact for artifact in artifacts if not artifact.runtimes]
    for activation_type in activation_types:
        for frame_format in formats:
            for artifact in usable:
                form = (artifact.kind, artifact.precision, artifact.activation_type, artifact.io)
                if form != (kind, precision, activation_type, frame_format):
                    continue
                if float_precision in (None, artifact.float_precision):
                    return artifact
    return None

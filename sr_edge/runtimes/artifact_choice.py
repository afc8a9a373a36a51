"""The one rule by which every runtime looks for its artifact in a bundle."""

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
) -> Artifact | None:
    """The artifact with the earliest of `activation_types`.

    `io` None prefers a float graph, `float_precision` None matches any.
    """
    formats = (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC) if io is None else (io,)
    for activation_type in activation_types:
        for frame_format in formats:
            for artifact in artifacts:
                found = (artifact.kind, artifact.precision, artifact.activation_type, artifact.io)
                if found == (kind, precision, activation_type, frame_format) and float_precision in (
                    None,
                    artifact.float_precision,
                ):
                    return artifact
    return None

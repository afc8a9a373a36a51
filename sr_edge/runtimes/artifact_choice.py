"""The one rule by which every runtime looks for its artifact in a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.spec import FrameFormat, Precision, Spelling


def first_fitting(
    artifacts: Sequence[Artifact],
    kind: ArtifactKind,
    precision: Precision,
    rest: Precision | None = None,
    spellings: Sequence[Spelling | None] = (None,),
    io: FrameFormat | None = None,
) -> Artifact | None:
    """The artifact with the earliest of `spellings`; `io` None prefers a float graph, `rest` None matches any."""
    formats = (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC) if io is None else (io,)
    for spelling in spellings:
        for frame_format in formats:
            for artifact in artifacts:
                found = (artifact.kind, artifact.precision, artifact.spelling, artifact.io)
                if found == (kind, precision, spelling, frame_format) and rest in (None, artifact.rest):
                    return artifact
    return None

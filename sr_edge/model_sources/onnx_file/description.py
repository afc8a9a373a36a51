"""Describes an ONNX file for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sr_edge.export.graph.view import default_opset
from sr_edge.model_sources.onnx_file.model import OnnxModel
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat
from sr_edge.spec import ModelCard, Precision, TileSpec


@dataclass(frozen=True)
class PictureDescription:
    """How a graph takes or returns the picture; a dimension without a fixed size has its name, or is None."""

    name: str
    dtype: str
    layout: str
    shape: tuple[int | str | None, ...]
    value_range: float
    channel_order: str


@dataclass(frozen=True)
class OnnxDescription:
    """The contents of an ONNX file.

    Attributes:
        sha256: Digest of the file.
        bytes: Its size, without weights in other files.
        producer: The program that wrote it.
        opset: Version of the operators.
        nodes: Number of nodes.
        operators: How often each operator occurs.
        card: The model card.
        input: How it takes the picture.
        output: How it returns the picture.
        tile: Height and width; None if it takes any size.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators.
        changes: What sr-edge changes to run the file, and what it found out.
        written_by_sr_edge: Whether the card was in the file.
    """

    sha256: str
    bytes: int
    producer: str
    opset: int
    nodes: int
    operators: dict[str, int]
    card: ModelCard
    input: PictureDescription
    output: PictureDescription
    tile: TileSpec | None
    precision: Precision
    float_precision: Precision
    changes: tuple[str, ...]
    written_by_sr_edge: bool


def describe(model: OnnxModel) -> OnnxDescription:
    """Describes an ONNX file that was read."""
    graph = model.original.graph
    operators = Counter(node.op_type for node in graph.node)
    return OnnxDescription(
        sha256=model.sha256,
        bytes=model.path.stat().st_size,
        producer=" ".join(filter(None, (model.original.producer_name, model.original.producer_version))),
        opset=default_opset(model.original),
        nodes=len(graph.node),
        operators=dict(operators.most_common()),
        card=model.card,
        input=_described(model.input),
        output=_described(model.output),
        tile=model.fixed_tile,
        precision=model.precisions.precision,
        float_precision=model.precisions.float_precision,
        changes=model.changes,
        written_by_sr_edge=model.metadata is not None,
    )


def _described(picture: PictureFormat) -> PictureDescription:
    port = picture.port
    order = "bgr" if picture.is_bgr else "rgb" if port.channels > 1 else "luma"
    return PictureDescription(port.name, port.dtype, str(port.layout), port.shape, picture.value_range, order)

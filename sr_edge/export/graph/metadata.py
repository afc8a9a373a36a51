"""The metadata that an exported graph stores in the metadata_props of its ONNX file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

import onnx

from sr_edge.bundle.plain import from_plain, to_plain
from sr_edge.errors import BundleError, ExportError
from sr_edge.export.graph.view import scalar_inputs
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.printable import one_line
from sr_edge.spec import Control, FrameFormat, ModelCard, Precision, TileSpec

METADATA_KEY = "sr_edge"


class Form(str, Enum):
    """The form in which a network is exported: its static twin, the training form as traced, or a user's ONNX graph."""

    STATIC = "static"
    TRACED = "traced"
    IMPORTED = "imported"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class GraphMetadata:
    """The model card and how this graph was made from the network.

    `tile` is None for a dynamic graph, and `torch_version` is empty for a graph that was not made by torch here.

    Attributes:
        card: The model card.
        form: The form of the graph.
        precision: Precision of convolutions and matrix multiplications.
        io: Format of input and output.
        tile: Input size.
        sr_edge_version: Version of sr-edge that wrote the graph.
        torch_version: Version of torch that traced it.
        nv12_colour: Matrix and range of NV12 frames; None for other formats.
    """

    card: ModelCard
    form: Form
    precision: Precision
    io: FrameFormat
    tile: TileSpec | None
    sr_edge_version: str
    torch_version: str
    nv12_colour: Nv12Colour | None = None


def write_metadata(model: onnx.ModelProto, metadata: GraphMetadata) -> None:
    """Stores `metadata` in `model` and replaces earlier metadata."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != METADATA_KEY]
    text = json.dumps(to_plain(metadata), sort_keys=True)
    onnx.helper.set_model_props(model, {**dict(kept), METADATA_KEY: text})


def graph_controls(model: onnx.ModelProto) -> tuple[Control, ...]:
    """The ranges and defaults of the scalar inputs, in the order of the inputs.

    Raises:
        ExportError: The graph has scalar inputs that no model card describes.
    """
    names = scalar_inputs(model)
    if not names:
        return ()
    declared = {control.name: control for control in read_metadata(model).card.controls}
    undeclared = [name for name in names if name not in declared]
    if undeclared:
        raise ExportError(
            f"the model card of the graph has no range for its input {undeclared[0]!r}",
            found=undeclared[0],
            wanted=tuple(declared),
            remedy="export the network again",
        )
    return tuple(declared[name] for name in names)


def read_metadata(model: onnx.ModelProto) -> GraphMetadata:
    """Reads the metadata that `write_metadata` stored.

    Raises:
        ExportError: The graph has no such metadata, or it is damaged.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    if text is None:
        raise ExportError(
            "the ONNX file was not written by sr-edge, so it has no model card",
            found=tuple(entry.key for entry in model.metadata_props),
            wanted=METADATA_KEY,
            remedy="create it with `sr-edge export`",
        )
    try:
        return from_plain(GraphMetadata, json.loads(text), "metadata")
    except (BundleError, json.JSONDecodeError) as error:
        raise ExportError(
            f"the metadata of the ONNX file is damaged: {one_line(str(error))}",
            found=METADATA_KEY,
            remedy="export it again",
        ) from error

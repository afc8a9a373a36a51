"""An ONNX file as a model: what it is, the graph that runtimes take, and the file itself as the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from sr_edge.errors import ExportError, TileError
from sr_edge.export.graph.metadata import GraphMetadata
from sr_edge.export.passes.simplify import simplify
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureGraph
from sr_edge.model_sources.onnx_file.ports import Layout
from sr_edge.model_sources.onnx_file.precisions import GraphPrecisions
from sr_edge.model_sources.onnx_file.rewrites.frames import with_frames
from sr_edge.spec import ModelCard, TileSpec

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file, understood.

    Attributes:
        path: The file.
        sha256: Digest of the file.
        card: Model card: that in the file if sr-edge wrote it, else what was found out by running the graph.
        changes: What `graph` changes, and what was found out, one clause each.
        fixed_tile: Height and width of the input, if the file fixes them.
        input: How the file takes the picture.
        output: How the file returns the picture.
        precisions: Precision of convolutions and matrix multiplications in the file, and that of the other operators.
        metadata: What sr-edge stored in the file; None in a file of other origin.
        original: The file with its weights.
        reference: What `run_original` runs: the file itself, unless ONNX Runtime cannot run it.
    """

    path: Path
    sha256: str
    card: ModelCard
    changes: tuple[str, ...]
    fixed_tile: TileSpec | None
    input: PictureFormat
    output: PictureFormat
    precisions: GraphPrecisions
    metadata: GraphMetadata | None
    original: onnx.ModelProto
    reference: PictureGraph
    _prepared: PictureGraph

    def __repr__(self) -> str:
        size = f"tile {self.fixed_tile}" if self.fixed_tile else "any size"
        return f"<OnnxModel {self.path}: {self.card.name} x{self.card.scale}, {self.precisions.precision}, {size}>"

    @property
    def default_tile(self) -> TileSpec:
        """The tile of the file, or the usual one for a file that takes any size."""
        return self.fixed_tile or self.card.default_tile

    @property
    def has_runtime_frames(self) -> bool:
        """Whether runtimes can open the file itself: float32 NCHW in [0, 1], RGB, batch 1, and no other output."""
        pictures = (self.input, self.output)
        return len(self.original.graph.output) == 1 and all(
            (picture.port.dtype, picture.port.layout, picture.value_range, picture.is_bgr, picture.port.batch)
            == ("float32", Layout.NCHW, 1.0, False, 1)
            for picture in pictures
        )

    def graph(self, tile: TileSpec | str | None = None) -> onnx.ModelProto:
        """The normalised graph: float32 NCHW frames in [0, 1], RGB, batch 1, of constant shapes.

        Its input is `input` and its output `output`; controls keep their names. It computes in float32, or in INT8
        where the file does, is simplified and in opset 17, unless onnx cannot convert it (`changes` says so).

        Args:
            tile: Height and width; None takes `default_tile`.

        Raises:
            TileError: The network does not accept the tile, or the file has another one.
            ExportError: The graph cannot be simplified, or still has control flow afterwards.
        """
        tile = self.default_tile if tile is None else TileSpec.of(tile)
        self.require_tile(tile)
        framed = with_frames(self._prepared.model, self._prepared.input, self._prepared.output, tile, self.card.scale)
        # onnxsim would fold the INT8 weights into float32 ones.
        normalised = framed if self.precisions.activation_type else simplify(framed).model
        _require_no_control_flow(normalised, self.path)
        return normalised

    def require_tile(self, tile: TileSpec | str) -> None:
        """Raises TileError unless the file takes this tile."""
        tile = TileSpec.of(tile)
        if self.fixed_tile is None:
            self.card.require_tile(tile)
        elif tile != self.fixed_tile:
            raise TileError(
                f"{self.path} takes tiles of {self.fixed_tile} only, not {tile}",
                found=tile,
                wanted=self.fixed_tile,
                remedy="leave --tile out, or export the network again with that size",
            )

    def run_original(self, batch: Batch) -> Batch:
        """Runs the user's file as it is in ONNX Runtime, with all conversions done in numpy.

        A file that ONNX Runtime cannot run, as in bf16, runs in float32 and a supported opset; `changes` says so.

        Args:
            batch: Float32 (1, channels, height, width) in [0, 1].

        Returns:
            Float32 (1, channels, scale * height, scale * width), in [0, 1].

        Raises:
            ExportError: ONNX Runtime cannot run the file.
        """
        return self.reference.run(batch)


def _require_no_control_flow(model: onnx.ModelProto, path: Path) -> None:
    operators = sorted({node.op_type for node in model.graph.node if node.op_type in _CONTROL_FLOW})
    if operators:
        raise ExportError(
            f"{path} contains the control flow {', '.join(operators)}, which depends on the picture",
            found=tuple(operators),
            wanted="a graph without control flow",
            remedy="export the network again for pictures of one size, by tracing",
        )

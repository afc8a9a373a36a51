"""An ONNX file as a model: what it is, the graph that runtimes take, and the file itself as the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from sr_edge.bundle import sha256_of
from sr_edge.errors import ExportError, TileError, UsageError
from sr_edge.export.graph.metadata import METADATA_KEY, GraphMetadata, read_metadata
from sr_edge.export.passes.simplify import simplify
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.batch_size import with_batch_of_one
from sr_edge.model_sources.onnx_file.float_types import with_float32
from sr_edge.model_sources.onnx_file.frames import with_frames
from sr_edge.model_sources.onnx_file.opset import with_opset
from sr_edge.model_sources.onnx_file.other_sizes import with_open_sizes
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureGraph
from sr_edge.model_sources.onnx_file.ports import PICTURE_TYPES, Layout, Port, picture_input, port_as_declared
from sr_edge.model_sources.onnx_file.precisions import GraphPrecisions, graph_precisions
from sr_edge.model_sources.onnx_file.reading import read_model
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, photograph, probe_graph
from sr_edge.model_sources.onnx_file.uint8_frames import with_float_frames
from sr_edge.model_sources.onnx_file.value_range import ValueRange, find_range
from sr_edge.spec import ModelCard, TileSpec

CHANNEL_ORDERS = ("rgb", "bgr")
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

    @property
    def default_tile(self) -> TileSpec:
        """The tile of the file, or the usual one for a file that takes any size."""
        return self.fixed_tile or self.card.default_tile

    @property
    def has_runtime_frames(self) -> bool:
        """Whether runtimes can open the file itself: float32 NCHW in [0, 1], RGB, batch 1, and no other output."""
        pictures = (self.input, self.output)
        return len(self.original.graph.output) == 1 and all(
            (picture.port.dtype, picture.port.layout, picture.white, picture.is_bgr, picture.port.batch)
            == ("float32", Layout.NCHW, 1.0, False, 1)
            for picture in pictures
        )

    def graph(self, tile: TileSpec | None = None) -> onnx.ModelProto:
        """The normalised graph: float32 NCHW frames in [0, 1], RGB, batch 1, of constant shapes.

        Its input is `input` and its output `output`; controls keep their names. It computes in float32, or in INT8
        where the file does, is simplified and in opset 17, unless onnx cannot convert it (`changes` says so).

        Args:
            tile: Height and width; None takes `default_tile`.

        Raises:
            TileError: The network does not accept the tile, or the file has another one.
            ExportError: The graph cannot be simplified, or still has control flow afterwards.
        """
        tile = tile or self.default_tile
        self.require_tile(tile)
        framed = with_frames(self._prepared.model, self._prepared.input, self._prepared.output, tile, self.card.scale)
        # onnxsim would fold the INT8 weights into float32 ones.
        normalised = framed if self.precisions.activation_type else simplify(framed).model
        _require_no_control_flow(normalised, self.path)
        return normalised

    def require_tile(self, tile: TileSpec) -> None:
        """Raises TileError unless the file takes this tile."""
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
            Float32 (1, channels, scale * height, scale * width), white as 1.

        Raises:
            ExportError: ONNX Runtime cannot run the file.
        """
        return self.reference.run(batch)


def read_onnx_model(
    path: str | Path,
    *,
    input_range: float | None = None,
    channel_order: str = "rgb",
    scale: int | None = None,
    tile: TileSpec | None = None,
) -> OnnxModel:
    """Reads an ONNX file of any origin and finds out, by running it, how it takes and returns pictures.

    Args:
        path: The file.
        input_range: The value of white, 1 or 255; None finds it out.
        channel_order: "rgb", or "bgr" for a network whose first channel is blue.
        scale: The magnification that the user states; None measures it.
        tile: Height and width that the graph has to take. A file that declares another size is tried at this one, and
            then counts as one of any size (`sr_edge.model_sources.onnx_file.other_sizes`).

    Raises:
        ExportError: The file is unreadable, unsafe, or no network that turns one picture into a larger one.
        TileError: The graph takes another size only.
        UsageError: An argument does not fit the file.
    """
    path = Path(path)
    original = read_model(path)
    model = _understood(path, original, input_range, channel_order, scale)
    if tile is None or model.fixed_tile in (None, tile):
        return model
    file = PictureGraph(original, model.input, model.output, model.card.controls)
    opened = with_open_sizes(file, model.fixed_tile, tile, model.card.scale, path)
    change = f"size of {model.fixed_tile} opened to any, tried at {tile}"
    reopened = _understood(path, opened, input_range, channel_order, scale)
    return replace(reopened, changes=(*reopened.changes, change))


def _understood(
    path: Path, original: onnx.ModelProto, input_range: float | None, channel_order: str, scale: int | None
) -> OnnxModel:
    metadata = read_metadata(original) if _has_metadata(original) else None
    controls = metadata.card.controls if metadata else ()
    value = picture_input(original, path, [control.name for control in controls])
    converted, opset_change = with_opset(original)
    widened, float_types = with_float32(converted)
    probed = probe_graph(widened, path, metadata.card.scale if metadata else scale, controls)
    is_bgr = _is_bgr(channel_order, probed, path)
    probed = replace(probed, input=replace(probed.input, is_bgr=is_bgr), output=replace(probed.output, is_bgr=is_bgr))
    white = _range_of(metadata, probed, input_range, channel_order, path)
    probed = replace(
        probed, input=replace(probed.input, white=white.input), output=replace(probed.output, white=white.output)
    )
    single, taken, batch_change = with_batch_of_one(widened, probed, controls)
    file_input = replace(probed.input, port=port_as_declared(value, probed.input.port))
    file_output = replace(probed.output, port=_declared_output(original, probed.output.port))
    own = PictureGraph(original, file_input, file_output, controls)
    reference = own if _runs(own, probed.size) else PictureGraph(widened, probed.input, probed.output, controls)
    sha256 = sha256_of(path)
    changes = (
        _changed_types(float_types),
        "" if metadata else _changed_frames(file_input, file_output),
        opset_change,
        "" if reference is own else "compared in this form, as ONNX Runtime cannot run the file itself",
        batch_change,
        _dropped_outputs(original, probed),
        white.reason,
    )
    return OnnxModel(
        path=path,
        sha256=sha256,
        card=metadata.card if metadata else _card(path, sha256, original, probed, white.input),
        changes=tuple(filter(None, changes)),
        fixed_tile=_fixed_tile(probed),
        input=file_input,
        output=file_output,
        precisions=graph_precisions(original),
        metadata=metadata,
        original=original,
        reference=reference,
        _prepared=_with_float_frames(PictureGraph(single, taken.input, taken.output, controls)),
    )


def _runs(graph: PictureGraph, size: TileSpec) -> bool:
    """Whether ONNX Runtime has kernels for the types of a graph, and knows its opset."""
    try:
        graph.run(photograph(size, graph.input.port.channels))
    except ExportError:
        return False
    return True


def _with_float_frames(graph: PictureGraph) -> PictureGraph:
    """The same graph with uint8 pictures as float32 of the same values, where they are converted anyway."""
    model = with_float_frames(graph.model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    source, result = (
        replace(picture, port=replace(picture.port, dtype=PICTURE_TYPES[types[picture.port.name]]))
        for picture in (graph.input, graph.output)
    )
    return replace(graph, model=model, input=source, output=result)


def _has_metadata(model: onnx.ModelProto) -> bool:
    return any(entry.key == METADATA_KEY for entry in model.metadata_props)


def _range_of(
    metadata: GraphMetadata | None, probed: ProbedGraph, input_range: float | None, channel_order: str, path: Path
) -> ValueRange:
    """The range of values: as sr-edge exports all graphs, or as it is found out."""
    if metadata is None:
        return find_range(probed, input_range, path)
    if input_range is not None or channel_order != "rgb":
        option = "--input-range" if input_range is not None else "--channel-order"
        raise UsageError(
            f"{path} was written by sr-edge, whose graphs take RGB from 0 to 1, or uint8, so {option} has no effect",
            found=option,
            remedy="leave it out",
        )
    return ValueRange(probed.input.white, probed.output.white, "")


def _changed_types(float_types: Sequence[str]) -> str:
    verb = "rounded" if "float64" in float_types else "widened"
    return f"{', '.join(float_types)} {verb} to fp32" if float_types else ""


def _changed_frames(source: PictureFormat, result: PictureFormat) -> str:
    """What differs from float32 NCHW, RGB, in the input and the output."""
    changed = []
    for end, picture in (("input", source), ("output", result)):
        words = {
            "uint8": picture.port.dtype == "uint8",
            "NHWC": picture.port.layout is Layout.NHWC,
            "BGR": picture.is_bgr,
        }
        if any(words.values()):
            changed.append(f"{' '.join(word for word, applies in words.items() if applies)} {end}")
    return f"{' and '.join(changed)} converted from and to float32 NCHW, RGB" if changed else ""


def _dropped_outputs(model: onnx.ModelProto, probed: ProbedGraph) -> str:
    names = [repr(output.name) for output in model.graph.output if output.name != probed.output.port.name]
    return f"output{'s' if len(names) > 1 else ''} {', '.join(names)} dropped" if names else ""


def _declared_output(model: onnx.ModelProto, port: Port) -> Port:
    return port_as_declared(next(value for value in model.graph.output if value.name == port.name), port)


def _is_bgr(channel_order: str, probed: ProbedGraph, path: Path) -> bool:
    if channel_order not in CHANNEL_ORDERS:
        raise UsageError(
            f"--channel-order is {channel_order!r}",
            found=channel_order,
            wanted=CHANNEL_ORDERS,
            remedy=f"choose one of: {', '.join(CHANNEL_ORDERS)}",
        )
    channels = probed.input.port.channels
    if channel_order == "bgr" and channels == 1:
        raise UsageError(
            f"{path} takes pictures of one channel, which have no order of channels",
            found=channel_order,
            remedy="leave --channel-order out",
        )
    return channel_order == "bgr"


def _fixed_tile(probed: ProbedGraph) -> TileSpec | None:
    return None if probed.input.port.height_width == (None, None) else probed.size


def _card(path: Path, sha256: str, model: onnx.ModelProto, probed: ProbedGraph, input_range: float) -> ModelCard:
    return ModelCard(
        name=path.stem,
        scale=probed.scale,
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 0),
        multiple_px=probed.multiple_px,
        minimum_px=probed.minimum_px,
        square_tiles=probed.square,
        input_range=input_range,
        weights_source=path.name,
        weights_sha256=sha256,
        input_channels=probed.input.port.channels,
        output_channels=probed.output.port.channels,
    )


def _require_no_control_flow(model: onnx.ModelProto, path: Path) -> None:
    operators = sorted({node.op_type for node in model.graph.node if node.op_type in _CONTROL_FLOW})
    if operators:
        raise ExportError(
            f"{path} contains the control flow {', '.join(operators)}, which depends on the picture",
            found=tuple(operators),
            wanted="a graph without control flow",
            remedy="export the network again for pictures of one size, by tracing",
        )

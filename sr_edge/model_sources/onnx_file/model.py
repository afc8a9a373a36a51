"""An ONNX file as a model: what it is, the graph that runtimes take, and the file itself as the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx

from sr_edge.bundle import sha256_of
from sr_edge.errors import ExportError, TileError, UsageError
from sr_edge.export.graph.view import graph_inputs
from sr_edge.export.passes.simplify import simplify
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.batch_size import with_batch_of_one
from sr_edge.model_sources.onnx_file.float_types import with_float32
from sr_edge.model_sources.onnx_file.frames import with_frames
from sr_edge.model_sources.onnx_file.opset import with_opset
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureRunner
from sr_edge.model_sources.onnx_file.ports import PICTURE_TYPES, Port, input_candidates, picture_input
from sr_edge.model_sources.onnx_file.reading import read_model
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, probe_graph
from sr_edge.model_sources.onnx_file.value_range import find_range
from sr_edge.spec import ModelCard, TileSpec

CHANNEL_ORDERS = ("rgb", "bgr")
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that somebody else wrote, understood.

    Attributes:
        path: The file.
        sha256: Digest of the file.
        card: Model card; the scale, channels and sizes were found by running the graph.
        changes: What `graph` changes, and what was found out, one clause each.
        fixed_tile: Height and width of the input, if the file fixes them.
        input: How the file takes the picture.
        output: How the file returns the picture.
    """

    path: Path
    sha256: str
    card: ModelCard
    changes: tuple[str, ...]
    fixed_tile: TileSpec | None
    input: PictureFormat
    output: PictureFormat
    original: onnx.ModelProto
    prepared: onnx.ModelProto
    prepared_formats: tuple[PictureFormat, PictureFormat]

    @property
    def default_tile(self) -> TileSpec:
        """The tile of the file, or the usual one for a file that takes any size."""
        return self.fixed_tile or self.card.default_tile

    def graph(self, tile: TileSpec | None = None) -> onnx.ModelProto:
        """The normalised graph: float32 NCHW frames in [0, 1], RGB, batch 1, of constant shapes.

        Its input is `input` and its output `output`; it is simplified and in opset 17, unless onnx cannot convert it
        (`changes` says so).

        Args:
            tile: Height and width; None takes `default_tile`.

        Raises:
            TileError: The network does not accept the tile, or the file has another one.
            ExportError: The graph cannot be simplified, or still has control flow afterwards.
        """
        tile = tile or self.default_tile
        if self.fixed_tile not in (None, tile):
            raise TileError(
                f"{self.path} takes tiles of {self.fixed_tile} only, not {tile}",
                found=tile,
                wanted=self.fixed_tile,
                remedy="leave --tile out, or export the network again with that size",
            )
        if self.fixed_tile is None:
            self.card.require_tile(tile)
        framed = with_frames(self.prepared, *self.prepared_formats, tile, self.card.scale)
        simplified = simplify(framed).model
        _require_no_control_flow(simplified, self.path)
        return simplified

    def run_original(self, batch: Batch) -> Batch:
        """Runs the user's file as it is in ONNX Runtime, with all conversions done in numpy.

        Args:
            batch: Float32 (1, channels, height, width) in [0, 1].

        Returns:
            Float32 (1, channels, scale * height, scale * width), white as 1.

        Raises:
            ExportError: ONNX Runtime cannot run the file.
        """
        outputs = self._runner.run(self.input.port.name, self.input.encode(batch))
        return self.output.decode(outputs[self.output.port.name])

    @cached_property
    def _runner(self) -> PictureRunner:
        return PictureRunner(self.original)


def read_onnx_model(
    path: str | Path, *, input_range: float | None = None, channel_order: str = "rgb", scale: int | None = None
) -> OnnxModel:
    """Reads an ONNX file of any origin and finds out, by running it, how it takes and returns pictures.

    Args:
        path: The file.
        input_range: The value of white, 1 or 255; None finds it out.
        channel_order: "rgb", or "bgr" for a network whose first channel is blue.
        scale: The magnification that the user states; None measures it.

    Raises:
        ExportError: The file is unreadable, unsafe, or no network that turns one picture into a larger one.
        UsageError: An argument does not fit the file.
    """
    path = Path(path)
    original = read_model(path)
    value = picture_input(original, path)
    converted, opset_change = with_opset(_with_outputs_only(original))
    plain, float_types = with_float32(converted)
    probed = probe_graph(plain, picture_input(plain, path), path, scale)
    single, probed, batch_change = with_batch_of_one(plain, probed)
    white = find_range(probed, input_range, path)
    is_bgr = _is_bgr(channel_order, probed, path)
    source = replace(probed.input, white=white.input, is_bgr=is_bgr)
    result = replace(probed.output, white=white.output, is_bgr=is_bgr)
    sha256 = sha256_of(path)
    file_input = _port_in_file(value, probed.input.port)
    changes = (
        f"{', '.join(float_types)} widened to fp32" if float_types else "",
        opset_change,
        batch_change,
        white.reason,
    )
    return OnnxModel(
        path=path,
        sha256=sha256,
        card=_card(path, sha256, original, probed, white.input),
        changes=tuple(filter(None, changes)),
        fixed_tile=_fixed_tile(probed),
        input=replace(source, port=file_input),
        output=replace(result, port=_output_in_file(original, probed.output.port)),
        original=original,
        prepared=single,
        prepared_formats=(source, result),
    )


def _with_outputs_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without declared shapes of inner tensors and outputs, which runs replace."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    names = {value.name for value in graph_inputs(model)}
    inputs = [value for value in plain.graph.input if value.name in names]
    del plain.graph.input[:]
    plain.graph.input.extend(inputs)
    plain.graph.ClearField("value_info")
    return plain


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


def _port_in_file(value: onnx.ValueInfoProto, port: Port) -> Port:
    return replace(port, dtype=PICTURE_TYPES[value.type.tensor_type.elem_type], shape=_file_shape(value, port))


def _file_shape(value: onnx.ValueInfoProto, port: Port) -> tuple[int | str | None, ...]:
    return input_candidates(value, Path())[0].shape


def _output_in_file(model: onnx.ModelProto, port: Port) -> Port:
    return port


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

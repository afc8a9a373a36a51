"""Finds out how an ONNX file takes and returns pictures, by its declarations and by running it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from sr_edge.bundle import sha256_of
from sr_edge.errors import ExportError, UsageError
from sr_edge.export.graph.metadata import METADATA_KEY, GraphMetadata, read_metadata
from sr_edge.model_sources.onnx_file.batch_size import with_batch_of_one
from sr_edge.model_sources.onnx_file.model import OnnxModel
from sr_edge.model_sources.onnx_file.other_sizes import with_open_sizes
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureGraph
from sr_edge.model_sources.onnx_file.ports import PICTURE_TYPES, Layout, Port, picture_input, port_as_declared
from sr_edge.model_sources.onnx_file.precisions import graph_precisions
from sr_edge.model_sources.onnx_file.reading import read_model
from sr_edge.model_sources.onnx_file.rewrites.float32 import with_float32
from sr_edge.model_sources.onnx_file.rewrites.opset import with_opset
from sr_edge.model_sources.onnx_file.rewrites.uint8_frames import with_float_frames
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, photograph, probe_graph, with_formats
from sr_edge.model_sources.onnx_file.value_range import find_range
from sr_edge.spec import FrameFormat, ModelCard, TileSpec

CHANNEL_ORDERS = ("rgb", "bgr")


def read_onnx_model(
    path: str | Path,
    *,
    input_range: float | None = None,
    channel_order: str = "rgb",
    scale: int | None = None,
    tile: TileSpec | str | None = None,
) -> OnnxModel:
    """Reads an ONNX file of any origin and finds out, by running it, how it takes and returns pictures.

    Args:
        path: The file.
        input_range: The largest value of the pictures, 1 or 255; None determines it.
        channel_order: "rgb", or "bgr" for a network whose first channel is blue.
        scale: The magnification that the user states; None measures it.
        tile: The size that is wanted. A graph that runs at few sizes, but declares none, is run at this one. One that
            declares another size is tried at this one, and then counts as one of any size
            (`sr_edge.model_sources.onnx_file.other_sizes`).

    Raises:
        ExportError: The file is unreadable, unsafe, or no network that turns one picture into a larger one.
        TileError: The graph takes another size only.
        UsageError: An argument does not fit the file.
    """
    tile = None if tile is None else TileSpec.of(tile)
    path = Path(path)
    original = read_model(path)
    model = _interpreted(path, original, input_range, channel_order, scale, tile)
    if tile is None or model.fixed_tile in (None, tile):
        return model
    file = PictureGraph(original, model.input, model.output, model.card.controls)
    opened = with_open_sizes(file, model.fixed_tile, tile, model.card.scale, path)
    reopened = _interpreted(path, opened, input_range, channel_order, scale, tile)
    return replace(reopened, changes=(*reopened.changes, f"size of {model.fixed_tile} opened to any, tried at {tile}"))


def _interpreted(
    path: Path,
    original: onnx.ModelProto,
    input_range: float | None,
    channel_order: str,
    scale: int | None,
    tile: TileSpec | None,
) -> OnnxModel:
    metadata = read_metadata(original) if _has_metadata(original) else None
    if metadata is not None and metadata.io is FrameFormat.NV12:
        raise ExportError(
            f"{path} takes packed NV12 tiles, which are not pictures",
            found=str(metadata.io),
            wanted=(str(FrameFormat.FLOAT_NCHW), str(FrameFormat.UINT8_NHWC)),
            remedy="export the network with another --io, or deploy it with --io nv12 and stream with --nv12",
        )
    controls = metadata.card.controls if metadata else ()
    value = picture_input(original, path, [control.name for control in controls])
    converted, opset_change = with_opset(original)
    widened, float_types = with_float32(converted)
    probed = probe_graph(widened, path, metadata.card.scale if metadata else scale, controls, tile)
    probed, range_reason = _with_known_formats(probed, metadata, input_range, channel_order, path)
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
        range_reason,
    )
    return OnnxModel(
        path=path,
        sha256=sha256,
        card=metadata.card if metadata else _card(path, sha256, original, probed),
        changes=tuple(filter(None, changes)),
        fixed_tile=probed.size if probed.one_size else None,
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


def _with_known_formats(
    probed: ProbedGraph, metadata: GraphMetadata | None, input_range: float | None, channel_order: str, path: Path
) -> tuple[ProbedGraph, str]:
    """Adds the order of the channels and the ranges of values, and says how they were found out.

    sr-edge exports all graphs for RGB from 0 to 1, or for uint8.
    """
    is_bgr = _is_bgr(channel_order, probed, path)
    if metadata is not None:
        option = "--input-range" if input_range is not None else "--channel-order" if is_bgr else None
        if option is None:
            return probed, ""
        raise UsageError(
            f"{path} was written by sr-edge, whose graphs take RGB from 0 to 1, or uint8, so {option} has no effect",
            found=option,
            remedy="leave it out",
        )
    ordered = with_formats(probed, is_bgr=is_bgr)
    value_range = find_range(ordered, input_range, path)
    return with_formats(ordered, is_bgr=is_bgr, value_range=(value_range.input, value_range.output)), value_range.reason


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


def _card(path: Path, sha256: str, model: onnx.ModelProto, probed: ProbedGraph) -> ModelCard:
    return ModelCard(
        name=path.stem,
        scale=probed.scale,
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 0),
        multiple_px=probed.multiple_px,
        minimum_px=probed.minimum_px,
        square_tiles=probed.square,
        input_range=probed.input.value_range,
        weights_source=path.name,
        weights_sha256=sha256,
        input_channels=probed.input.port.channels,
        output_channels=probed.output.port.channels,
    )

"""Writes the graphs that gpu.py compares, and how much the network computes, which takes torch a while to count."""

from __future__ import annotations

from gpu_contenders import Network

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.calibration.ranges.observers import MinMaxObserver
from sr_edge.export import to_fp16, to_static
from sr_edge.export.derived import take_frames
from sr_edge.export.export import save_model
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.models.macs import count_macs
from sr_edge.spec import ActivationType, FrameFormat, Precision


def write_graphs(network: Network) -> None:
    """Both forms in fp16, the static one in INT8 with an fp16 rest too, all for uint8 frames.

    Raises:
        TileError: the network does not take the tile.
    """
    loaded, tile = network.load(), network.tile
    tile.require_multiple_of(loaded.card.multiple_px)
    network.macs_file.write_text(f"{count_macs(loaded.module, tile.height, tile.width)}\n", encoding="utf-8")
    modules = {Form.STATIC: to_static(loaded.module, tile.height, tile.width), Form.TRACED: loaded.module}
    for form, module in modules.items():
        floats, half = simplify(trace(module, tile)).model, network.graph(Precision.FP16, form)
        write_metadata(floats, GraphMetadata(loaded.card, form, Precision.FP32, FrameFormat.FLOAT_NCHW, tile, "", ""))
        save_model(to_fp16(floats).model, half)
        take_frames(half, FrameFormat.UINT8_NHWC)
        if form is Form.STATIC:
            base, int8 = network.graph(Precision.FP32, form), network.graph(Precision.INT8, form)
            save_model(floats, base)
            calibration = calibrate(base, worst_case_patches(tile), method=MinMaxObserver.name)  # time needs no better
            quantize_onnx(base, calibration, int8, ActivationType.INT8, Precision.FP16)
            take_frames(int8, FrameFormat.UINT8_NHWC)
            base.unlink()

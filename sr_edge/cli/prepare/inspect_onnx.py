"""The page of `sr-edge inspect` for an ONNX file: what it takes and returns, and what runtimes refuse in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.cli.model_argument import read_input_range
from sr_edge.cli.prepare.graph_warnings import graph_warnings
from sr_edge.spec import TileSpec

if TYPE_CHECKING:
    from sr_edge.model_sources.onnx_file.description import OnnxDescription, PictureDescription

SHOWN_OPERATORS = 8


def inspect_onnx(
    path: Path, targets: Sequence[str], tile: str | None, input_range: str, channel_order: str, as_json: bool
) -> None:
    """Reads an ONNX file and prints its page."""
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr, warning_lines
    from sr_edge.model_sources import read_onnx_model
    from sr_edge.model_sources.onnx_bundle import bundle_of
    from sr_edge.model_sources.onnx_file.description import describe

    with result_on_stdout(as_json) as show:
        size = TileSpec.parse(tile) if tile else None
        white = read_input_range(input_range)
        with stage_on_stderr(f"checking {path.name}"):
            model = read_onnx_model(path, input_range=white, channel_order=channel_order, tile=size)
            with bundle_of(model, size or model.default_tile) as bundle:
                warnings = graph_warnings(bundle, targets)
                description = describe(model)
                remarks = bundle.remarks
        lines = warning_lines(line for findings in warnings.values() for line in findings)
        document = {"path": str(path), "onnx": description, "remarks": remarks, "warnings": warnings}
        show(document, "\n".join([*_properties(description, remarks), *lines]))


def _properties(file: OnnxDescription, remarks: Sequence[str]) -> list[str]:
    card = file.card
    precision = str(file.precision)
    if file.float_precision is not file.precision:
        precision += f", other operators in {file.float_precision}"
    operators = [f"{name} {count}" for name, count in file.operators.items()]
    hidden = len(operators) - SHOWN_OPERATORS
    shown = ", ".join(operators[:SHOWN_OPERATORS]) + (f" and {hidden} more" if hidden > 0 else "")
    lines = {
        "model": f"{card.name} x{card.scale}, {card.parameters:,} parameters",
        "written by": file.producer or "not recorded",
        "input": _picture(file.input),
        "output": _picture(file.output),
        "tile": f"{file.tile}, fixed by the file" if file.tile else _sizes(file),
        "precision": precision,
        "opset": str(file.opset),
        "nodes": f"{file.nodes}: {shown}",
        "controls": ", ".join(str(control) for control in card.controls),
        "file": f"{file.bytes / 1e6:.2f} MB, SHA-256 {file.sha256}",
        "to run it": "; ".join(remarks) or "nothing is changed",
    }
    return [f"{name:12}{value}" for name, value in lines.items() if value]


def _picture(picture: PictureDescription) -> str:
    shape = ", ".join("?" if size is None else str(size) for size in picture.shape)
    values = f"0-{picture.value_range:g}"
    return f"{picture.name!r}, {picture.dtype} {picture.layout} ({shape}), {values}, {picture.channel_order}"


def _sizes(file: OnnxDescription) -> str:
    card = file.card
    multiple = f", multiples of {card.multiple_px}" if card.multiple_px > 1 else ""
    square = ", square" if card.square_tiles else ""
    return f"any from {card.minimum_px}x{card.minimum_px} on{multiple}{square}; {card.default_tile} by default"

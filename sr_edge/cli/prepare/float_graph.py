"""The float ONNX graph of a MODEL argument: the file itself, the one in a bundle, or a temporary export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.errors import BundleError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.spec import RGB, Precision, TileSpec

if TYPE_CHECKING:
    from sr_edge.model_sources import NetworkChoice, OnnxModel
    from sr_edge.spec import StageProgress

DYNAMIC_TILE = TileSpec(64, 64)
"""The size of patches for a graph of dynamic height and width."""


@dataclass(frozen=True)
class FloatGraph:
    """A float32 ONNX file with the properties that calibration needs.

    Attributes:
        path: The ONNX file.
        tile: Height and width of its input, or those of the patches for a dynamic graph.
        channels: Channels of its input.
        input_range: The largest value of its input, 1 or 255.
        remark: What was chosen because an option was left out, and what was changed in a file.
    """

    path: Path
    tile: TileSpec
    channels: int = RGB
    input_range: float = 1.0
    remark: str = ""


@contextmanager
def float_graph(choice: NetworkChoice, tile: str | None, progress: StageProgress) -> Iterator[FloatGraph]:
    """Provides the float graph inside a `with` block.

    An ONNX file that calibration can read is taken as it is, so that its INT8 form has the same input and output. Any
    other network is exported, such as an ONNX file in fp16.

    Raises:
        CalibrationError: The file does not take the tile.
        ExportError: The ONNX file is damaged or unsafe.
        BundleError: The path is not a bundle, or the bundle has no float graph.
        UsageError: Options for PyTorch networks were given with a file or a bundle.
        SrEdgeError: The network could not be loaded or exported.
    """
    from sr_edge.model_sources import SourceKind, source_kind
    from sr_edge.model_sources.networks import onnx_file_of, require_no_torch_options

    if choice.model is not None and source_kind(choice.model) is SourceKind.BUNDLE:
        require_no_torch_options(choice, "a bundle, which has an exported graph")
        with _from_bundle(Path(choice.model), tile) as graph:
            yield graph
        return
    file = onnx_file_of(choice)
    as_it_is = _as_it_is(file, choice, tile) if file is not None else None
    if as_it_is is not None:
        yield as_it_is
        return
    with temporary_folder("calibrate") as folder:
        yield _exported(choice, tile, folder / "model.onnx", progress)


def _as_it_is(path: Path, choice: NetworkChoice, tile: str | None) -> FloatGraph | None:
    """The ONNX file itself, or None if calibration cannot read its form, or another size is wanted."""
    from sr_edge.calibration.graph.load import reads_as_it_is
    from sr_edge.model_sources.networks import read_network_file
    from sr_edge.model_sources.onnx_file.reading import read_model

    read_model(path)  # refuses damaged and unsafe files before onnx opens the weights beside them
    if choice.channel_order != "rgb" or not reads_as_it_is(path):
        return None
    model = read_network_file(path, choice)
    if tile is not None and model.fixed_tile not in (None, TileSpec.parse(tile)):
        return None
    remark = "" if model.metadata is not None else _what_is_kept(model)
    return _from_file(path, tile, model.input.value_range, remark)


def _what_is_kept(model: OnnxModel) -> str:
    """What calibration keeps and changes in a file of other origin."""
    from sr_edge.calibration.graph.load import FIRST_OPSET_PER_CHANNEL
    from sr_edge.export.graph.view import default_opset

    opset = default_opset(model.original)
    converted = f"opset {opset} converted to {FIRST_OPSET_PER_CHANNEL}; " if opset < FIRST_OPSET_PER_CHANNEL else ""
    return (
        f"{model.path.name}: input and output kept as they are; {converted}"
        f"its values range from 0 to {model.input.value_range:g}"
    )


def _from_file(path: Path, tile: str | None, input_range: float = 1.0, remark: str = "") -> FloatGraph:
    from sr_edge.calibration.graph.load import graph_channels, graph_tile, is_dynamic

    wanted, remarks = TileSpec.parse(tile) if tile else None, [remark]
    if wanted is None and is_dynamic(path):
        wanted = DYNAMIC_TILE
        remarks.append(f"the graph takes any size: patches are {DYNAMIC_TILE}; --tile chooses another size")
    remark = "; ".join(filter(None, remarks))
    return FloatGraph(path, graph_tile(path, wanted), graph_channels(path), input_range, remark)


@contextmanager
def _from_bundle(path: Path, tile: str | None) -> Iterator[FloatGraph]:
    from sr_edge.bundle import open_bundle

    with open_bundle(path) as bundle:
        artifact = bundle.find(Precision.FP32)
        if artifact is None:
            raise BundleError(
                f"{path} contains no fp32 graph, from which INT8 could be made",
                found=tuple(dict.fromkeys(str(item.precision) for item in bundle.manifest.artifacts)),
                wanted=str(Precision.FP32),
                remedy="deploy the network again",
            )
        yield _from_file(bundle.file(artifact), tile)


def _exported(choice: NetworkChoice, tile: str | None, path: Path, progress: StageProgress) -> FloatGraph:
    from sr_edge.cli.output import named_steps
    from sr_edge.cli.prepare.tiles import chosen_tile, requested_tile
    from sr_edge.export import export_best_form
    from sr_edge.model_sources import load_network

    with named_steps(progress) as begin:
        begin(f"loading {choice.shown_name}")
        network = load_network(choice, requested_tile(tile))
        chosen = chosen_tile(tile, network, progress)
        report = export_best_form(network, chosen, path, progress=begin)
    remarks = (*network.remarks, report.form_reason, *report.remarks)
    return FloatGraph(path, chosen, network.card.channels, remark="; ".join(filter(None, remarks)))

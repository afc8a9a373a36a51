"""The float ONNX graph of a MODEL argument: the file itself, the one in a bundle, or a temporary export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.errors import BundleError, UsageError
from sr_edge.spec import Precision, TileSpec
from sr_edge.unfinished import temporary_folder

if TYPE_CHECKING:
    from sr_edge.spec import StageProgress

DYNAMIC_TILE = TileSpec(64, 64)
"""The size of patches for a graph of dynamic height and width."""


@dataclass(frozen=True)
class NetworkChoice:
    """A MODEL argument with the options that belong to it."""

    model: str | None
    scale: int | None = None
    weights: Path | None = None
    random_weights: bool = False
    arch: str | None = None
    input_range: float = 1.0
    blend: tuple[str, ...] = ()


@dataclass(frozen=True)
class FloatGraph:
    """A float32 ONNX file with the properties that calibration needs.

    Attributes:
        path: The ONNX file.
        tile: Height and width of its input, or those of the patches for a dynamic graph.
        channels: Channels of its input.
        input_range: The largest value of its input, 1 or 255.
        remark: What was chosen because an option was left out.
    """

    path: Path
    tile: TileSpec
    channels: int = 3
    input_range: float = 1.0
    remark: str = ""


@contextmanager
def float_graph(network: NetworkChoice, tile: str | None, progress: StageProgress) -> Iterator[FloatGraph]:
    """Provides the float graph inside a `with` block.

    Raises:
        CalibrationError: The file is not an ONNX model, or does not take the tile.
        BundleError: The path is not a bundle, or the bundle has no float graph.
        UsageError: Options for PyTorch networks were given with a file or a bundle.
        SrEdgeError: The network could not be loaded or exported.
    """
    path = Path(network.model) if network.model is not None else None
    if path is not None and path.suffix == ".onnx":
        _require_no_torch_options(network)
        yield _from_file(path, tile, network.input_range)
    elif path is not None and (path.is_dir() or path.suffix in (".sredge", ".zip")):
        _require_no_torch_options(network)
        with _from_bundle(path, tile) as graph:
            yield graph
    else:
        with temporary_folder("calibrate") as folder:
            yield _exported(network, tile, folder / "model.onnx", progress)


def _require_no_torch_options(network: NetworkChoice) -> None:
    """Refuses options that choose scale or weights, which a file already has."""
    given = {
        "--scale": network.scale is not None,
        "--weights": network.weights is not None,
        "--random-weights": network.random_weights,
        "--arch": network.arch is not None,
        "--blend": bool(network.blend),
    }
    options = tuple(option for option, is_given in given.items() if is_given)
    if options:
        raise UsageError(
            f"{', '.join(options)} is for PyTorch networks, whereas {network.model} is an exported graph",
            found=options,
            remedy="leave it out" if len(options) == 1 else "leave these options out",
        )


def _from_file(path: Path, tile: str | None, input_range: float = 1.0) -> FloatGraph:
    from sr_edge.calibration.graph.load import graph_channels, graph_tile, is_dynamic

    wanted, remark = TileSpec.parse(tile) if tile else None, ""
    if wanted is None and is_dynamic(path):
        wanted, remark = (
            DYNAMIC_TILE,
            f"the graph takes any size: patches are {DYNAMIC_TILE}; --tile chooses another size",
        )
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


def _exported(network: NetworkChoice, tile: str | None, path: Path, progress: StageProgress) -> FloatGraph:
    from sr_edge.cli.prepare.tiles import chosen_tile, requested_tile
    from sr_edge.export import export_best_form
    from sr_edge.models import load_model
    from sr_edge.models.checkpoints import Blend

    loaded = load_model(
        network.model,
        network.scale,
        network.weights,
        network.random_weights,
        network.arch,
        network.input_range,
        blend=[Blend.parse(text) for text in network.blend],
        tile=requested_tile(tile),
    )
    chosen = chosen_tile(tile, loaded, progress)
    report = export_best_form(loaded, chosen, path, progress=lambda step: progress(step, 1, 1))
    remarks = (*loaded.remarks, report.form_reason, *report.remarks)
    return FloatGraph(path, chosen, remark="; ".join(filter(None, remarks)))

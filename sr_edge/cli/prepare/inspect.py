"""`sr-edge inspect`: what is in a bundle, every digest checked, and which runtimes refuse its graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunnableArgument,
    opened_model,
)
from sr_edge.cli.options import JsonOption, TargetsOption, read_targets
from sr_edge.cli.prepare.graph_warnings import graph_warnings
from sr_edge.spec import CHANNEL_NAMES

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from sr_edge.bundle import Manifest, RecommendedEngine
    from sr_edge.reuse_table import ReuseTable
    from sr_edge.spec import ModelCard, TileNeeds


def inspect(
    model: RunnableArgument,
    for_targets: TargetsOption = None,
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Verify and show the contents of a bundle or ONNX file."""
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr
    from sr_edge.model_sources import SourceKind, source_kind

    targets = read_targets(for_targets)
    if source_kind(model) is SourceKind.ONNX:
        from sr_edge.cli.prepare.inspect_onnx import inspect_onnx

        inspect_onnx(model, targets, tile, input_range, channel_order, as_json)
        return
    with result_on_stdout(as_json) as show, opened_model(model, tile, input_range, channel_order) as opened:
        with stage_on_stderr(f"checking {model.name}"):
            opened.verify()
            sizes = {file: (opened.folder / file).stat().st_size for file in opened.manifest.digests()}
            warnings = graph_warnings(opened, targets)
        document = {"path": str(model), "manifest": opened.manifest, "bytes": sizes, "warnings": warnings}
        show(document, _readable(opened.manifest, sizes, warnings))


def _readable(manifest: Manifest, sizes: dict[str, int], warnings: dict[str, tuple[str, ...]]) -> Group:
    from rich.console import Group

    from sr_edge.cli.output import warning_lines

    lines = warning_lines(f"{file}: {line}" for file, findings in warnings.items() for line in findings)
    return Group(_properties_text(manifest), _artifacts(manifest, sizes), *lines)


def _properties_text(manifest: Manifest) -> str:
    card, calibration = manifest.card, manifest.calibration
    lines = {
        "model": f"{card.name} x{card.scale}, {card.parameters:,} parameters",
        "family": _family(card),
        "weights": "RANDOM, for latency studies only" if card.random_weights else card.weights_source or "not recorded",
        "tile": "; ".join(
            f"{tile} in, {tile.height * card.scale}x{tile.width * card.scale} out" for tile in manifest.tiles
        ),
        "channels": f"{card.channels} ({CHANNEL_NAMES[card.channels]})",
        "overlap": f"{card.overlap_px} px" + (", global statistics" if card.global_statistics else ""),
        "tiles": _tile_needs(card.tile_needs),
        "reuse": _reuse_table(card.reuse_table),
        "controls": _controls(card),
        "golden": f"{len(manifest.golden)} outputs to test against",
        "INT8": f"{calibration.method}, {calibration.patches} patches" if calibration else "not calibrated",
        "measured": "; ".join(map(_recommendation, manifest.recommendations)),
        "left out": "; ".join(f"{name}: {reason}" for name, reason in manifest.left_out.items()),
        "passes": _passes(manifest),
        "tools": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()) or "not recorded",
        "licences": ", ".join(f"{part}: {licence}" for part, licence in manifest.licences.items()) or "not recorded",
        "created": manifest.created or "not recorded",
    }
    return "\n".join(f"{name:10}{value}" for name, value in lines.items() if value) + "\n"


def _recommendation(engine: RecommendedEngine) -> str:
    """What a measurement recommends, and where it was made: "openvino int8 on AMD EPYC, 2.50 ms a tile"."""
    from sr_edge.runtimes.variants import Variant

    label = Variant(engine.runtime, engine.precision, engine.float_precision).label
    place = engine.fingerprint.hardware or engine.fingerprint.device
    return f"{engine.runtime} {label} on {place}, {engine.latency_ms:.2f} ms a tile, {engine.origin}"


def _family(card: ModelCard) -> str:
    """What was recognised in a user's checkpoint; empty for the models of sr-edge."""
    recognised = [card.family, card.purpose, *(f"{name} {value}" for name, value in card.hyper_parameters.items())]
    return ", ".join(filter(None, recognised))


def _tile_needs(needs: TileNeeds | None) -> str:
    """The measured effect of tiles, or that it was not measured."""
    if needs is None:
        return "their effect was not measured"
    limit = f"the edge of {needs.measured_on}"
    halo, reach = (limit if pixels is None else f"{pixels} px" for pixels in (needs.halo_px, needs.reach_px))
    compared = [f"{needs.own_db:.1f} dB"]
    if needs.reference_db is not None and needs.synchronous_db is not None:
        compared += [f"{needs.reference_db:.1f} with reference statistics", f"{needs.synchronous_db:.1f} synchronous"]
    return f"a pixel shows up to {halo}, acts up to {reach}; {needs.tile} against whole: {', '.join(compared)}"


def _reuse_table(table: ReuseTable | None) -> str:
    """The bounds in decibels within which tiles can be reused; empty if they were not measured."""
    if table is None:
        return ""
    low_db, high_db = table.range_db
    placed = f"; tiles placed from {table.placement.least_db:.4f} dB" if table.placement else ""
    bounds = f"bounds of {low_db:.4f} to {high_db:.3f} dB"
    return f"{bounds}, measured on {table.patches} pictures at {table.psnr_db:.1f} dB{placed}"


def _controls(card: ModelCard) -> str:
    free = [str(control) for control in card.controls]
    baked = [f"{name} is {value:g}, a constant" for name, value in card.baked.items()]
    return ", ".join(free + baked) or "none"


def _passes(manifest: Manifest) -> str:
    """The passes of the graphs for all runtimes, and what was measured in each runtime; empty if there are none."""
    shared = next((item.passes for item in manifest.artifacts if not item.runtimes), ())
    lines = [f"all runtimes: {', '.join(shared)}"] if shared else []
    return "; ".join((*lines, *manifest.pass_lines))


def _artifacts(manifest: Manifest, sizes: dict[str, int]) -> Table:
    from rich.table import Table

    table = Table("file", "precision", "INT8 activations", "io", "runtimes", "MB")
    table.columns[-1].justify = "right"
    for item in manifest.artifacts:
        is_mixed = item.float_precision is not item.precision
        precision = f"{item.precision}+{item.float_precision}" if is_mixed else str(item.precision)
        size = f"{sizes[item.file] / 1e6:.2f}"
        activations, runtimes = str(item.activation_type or ""), ", ".join(item.runtimes) or "all"
        table.add_row(item.file, precision, activations, str(item.io), runtimes, size)
    return table

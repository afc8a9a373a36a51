"""`sr-edge calibrate`: a float ONNX file and pictures to an INT8 ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import Exclude, Images, Include, Json, Method, require_another_file
from sr_edge.spec import Spelling
from sr_edge.whole_file import require_output_file

if TYPE_CHECKING:
    from sr_edge.calibration import Calibration


def calibrate(
    graph: Annotated[Path, typer.Argument(metavar="MODEL.ONNX", help="The fp32 graph.", show_default=False)],
    images: Images,
    out: Annotated[Path, typer.Option("--output", "-o", help="The INT8 .onnx file to write.", show_default=False)],
    method: Method = "percentile",
    include: Include = [],  # noqa: B006  # typer copies it; it wants a list here
    exclude: Exclude = [],  # noqa: B006
    spelling: Annotated[Spelling, typer.Option(help="s8: TensorRT, ONNX Runtime; u8: OpenVINO.")] = Spelling.S8,
    patches: Annotated[int, typer.Option(min=1, help="Patches cut from the pictures.")] = 40,
    tile: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Patch size, for a dynamic graph.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="JSON file that keeps what was measured.", show_default=False)
    ] = None,
    recalibrate: Annotated[bool, typer.Option("--recalibrate", help="Measure even if the cache is there.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a float ONNX file and pictures into INT8 ONNX."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    require_another_file(out, graph, images, cache)
    for file in (out, cache):
        if file is not None:
            require_output_file(file)
    with result_on_stdout(as_json) as show:
        from sr_edge.calibration import calibrate as measure_ranges
        from sr_edge.calibration import calibration_patches, graph_tile, quantize_onnx
        from sr_edge.spec import TileSpec

        with progress_on_stderr() as progress:
            patch_size = graph_tile(graph, TileSpec.parse(tile) if tile else None)
            calibration = measure_ranges(
                graph,
                calibration_patches(images, patch_size, patches),
                method=method,
                include=include,
                exclude=exclude,
                progress=lambda done, total: progress("calibrating", done, total),
                cache=cache,
                recalibrate=recalibrate,
            )
            quantize_onnx(graph, calibration, out, spelling)
        show({"path": out, "spelling": spelling, "calibration": calibration}, _readable(out, spelling, calibration))


def _readable(out: Path, spelling: Spelling, calibration: Calibration) -> str:
    kept = [decision for decision in calibration.decisions if not decision.int8]
    lines = [
        f"{out}: {len(calibration.int8_nodes)} layers in INT8 ({spelling}), {len(kept)} kept float, "
        f"{calibration.provenance.method} over {len(calibration.provenance.patches_sha256)} patches",
        *(f"  float: {decision.node}: {decision.reason}" for decision in kept),
    ]
    return "\n".join(lines)

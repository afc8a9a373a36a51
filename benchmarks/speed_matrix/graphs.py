"""Makes the graphs of one row: what torch's exporter and onnxsim give, and what sr-edge exports.

python -m speed_matrix.graphs NAME SIDE FOLDER   (in the folder benchmarks)

Nothing is timed here, so that all rows can be prepared on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim  # type: ignore[import-untyped]
import torch

from speed_matrix.subjects import SWINIR_LIGHT, TWIN, subjects
from speed_matrix.times import BASELINE, PLAIN, RECORD, SHARED, TWIN_FILE
from sr_edge.errors import SrEdgeError
from sr_edge.export import accelerate_onnx, export_best_form, read_metadata
from sr_edge.export.graph.metadata import write_metadata
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.patches import check_patches
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.speed_passes import passes_for_all_targets
from sr_edge.model_sources import NetworkChoice, load_network
from sr_edge.models import LoadedModel, load_model
from sr_edge.spec import PassChoice, TileSpec

EXPORTERS = ((17, False), (20, False), (18, True))
"""Opset of the baseline, and whether torch's newer exporter writes it: the first that exports the network is taken."""
LARGEST_ERROR = 1e-3
"""The largest difference from the baseline, of an output range of 1, with which a row counts as the same network."""


def make(name: str, side_px: int, folder: Path) -> dict[str, Any]:
    """Writes the graphs of a row to `folder`; returns the record, which says why where that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    tile = TileSpec(side_px, side_px)
    factory = next(subject.factory for subject in subjects() if subject.name == name)
    record: dict[str, Any] = {}
    try:
        model = load_network(NetworkChoice(None, arch=factory), tile)
        _vary_slopes(model.module)
        plain = export_best_form(model, tile, folder / PLAIN, passes=())
        passes = passes_for_all_targets(PassChoice.STRUCTURE)
        shared = accelerate_onnx(plain, model, folder / SHARED, passes)
        record = {"passes": list(shared.passes[len(plain.passes) :]), "rewrites": list(plain.passes)}
        record["remarks"] = [remark for remark in shared.remarks if remark not in plain.remarks]
    except SrEdgeError as error:
        return {"failed": f"sr-edge does not export it: {error.problem}"}
    try:
        record["remarks"] += _write_baseline(model, tile, folder)
        record["error"] = _largest_difference(folder, tile, model.card.channels)
    except Exception as error:  # whatever torch and onnxsim raise
        return {**record, "failed": f"torch and onnxsim do not export it: {type(error).__name__}: {_first_line(error)}"}
    if record["error"] > LARGEST_ERROR:
        record["failed"] = f"the outputs of the two exports differ by {record['error']:.2g}"
    if name == SWINIR_LIGHT:
        export_best_form(load_model(*TWIN, random_weights=True), tile, folder / TWIN_FILE)
    return record


def _vary_slopes(network: torch.nn.Module) -> None:
    """Seeds the slopes of PReLU, since trained ones differ by channel and runtimes treat equal ones specially."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, 0.05, 0.4, generator=generator)


def _write_baseline(model: LoadedModel, tile: TileSpec, folder: Path) -> tuple[str, ...]:
    """Writes the network as torch's exporter and onnxsim do, with the model card of our export, which sessions read.

    The first of `EXPORTERS` is taken whose graph ONNX Runtime can run.

    Returns:
        A remark where it is not the very first.

    Raises:
        Exception: The error of the first exporter, if there is no such graph.
    """
    path = folder / BASELINE
    picture = torch.rand(1, model.card.channels, tile.height, tile.width)
    errors: list[Exception] = []
    for opset, is_newer in EXPORTERS:
        try:
            _export(model, picture, path, opset, is_newer)
            session = open_onnxruntime(path)
            run_session(session, {session.get_inputs()[0].name: picture.numpy()})
        except Exception as error:  # whatever torch, onnxsim and ONNX Runtime raise
            errors.append(error)
            continue
        if not errors:
            return ()
        exporter = "newer exporter" if is_newer else "exporter"
        return (f"the baseline is of torch's {exporter} with opset {opset}: {_first_line(errors[0])}",)
    raise errors[0]


def _export(model: LoadedModel, picture: torch.Tensor, path: Path, opset: int, is_newer: bool) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.module.eval(),
            (picture,),
            str(path),
            input_names=["input"],
            output_names=["output"],
            opset_version=opset,
            dynamo=is_newer,
        )
    simplified, is_equal = onnxsim.simplify(onnx.load(path))
    if not is_equal:
        raise ValueError("onnxsim changed the output")
    write_metadata(simplified, read_metadata(read_onnx(path.with_name(PLAIN))))
    onnx.save(simplified, path)


def _largest_difference(folder: Path, tile: TileSpec, channels: int) -> float:
    batch = check_patches(tile, channels=channels)[0].batch
    outputs = []
    for file in (BASELINE, SHARED):
        session = open_onnxruntime(folder / file)
        outputs.append(next(iter(run_session(session, {session.get_inputs()[0].name: batch}).values())))
    return float(np.abs(outputs[0] - outputs[1]).max())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("side_px", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = make(arguments.name, arguments.side_px, arguments.folder)
    (arguments.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

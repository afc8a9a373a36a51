"""The two steps to INT8: measure ranges once, then write a graph per spelling and rest precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from sr_edge.bundle.store import sha256_of
from sr_edge.calibration.cache import read_cache, require_same, write_cache
from sr_edge.calibration.calibration import Calibration, Provenance
from sr_edge.calibration.collect import OBSERVED_BYTES, collect_ranges
from sr_edge.calibration.columns import Layer, quantizable_layers
from sr_edge.calibration.graph import load_graph
from sr_edge.calibration.observers import OBSERVERS, Observer, observer_named
from sr_edge.calibration.output import write_output
from sr_edge.calibration.patch import Batch, StepProgress, digest_of
from sr_edge.calibration.placement import PlacementPolicy, decide
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.calibration.search import SEARCH, RangeSearchResult
from sr_edge.calibration.sites import find_quantizable_ops
from sr_edge.calibration.watched import require_batches
from sr_edge.errors import CalibrationError, NothingToQuantize, UnknownNameError, UsageError
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.fp16 import to_fp16
from sr_edge.export.inner_tensors import observe_magnitudes, worst_cases_of
from sr_edge.export.metadata import METADATA_KEY, graph_controls, read_metadata, write_metadata
from sr_edge.spec import ActivationType, Precision
from sr_edge.whole_file import require_output_file


def calibrate(
    onnx_path: Path,
    batches: Sequence[Batch],
    *,
    method: str = SEARCH,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    ends_float: bool = True,
    progress: StepProgress | None = None,
    cache: Path | None = None,
    recalibrate: bool = False,
    observed_bytes: int = OBSERVED_BYTES,
) -> Calibration:
    """Finds how every layer of a float graph is best made INT8, and decides by rules which ones become so.

    The decibels are not looked at: `calibrate_within` does that.

    Args:
        onnx_path: the float32 graph; float NCHW or uint8 NHWC input.
        batches: float32 (1, channels, height, width) in [0, 1]; 40 varied patches are enough, 8 are not.
        method: SEARCH, or an observer's name, see OBSERVERS.
        include: glob patterns of node names; see PlacementPolicy.
        exclude: likewise.
        ends_float: keeps the first and the last layer float, which cost most; False leaves it to the one who judges.
        progress: called with (steps done, steps in all).
        cache: JSON file that holds the result, and during the work what is done so far. If it is there, its ranges are
            used instead of measuring; the decisions are always made anew, so that include and exclude may change.
        recalibrate: measure even if the cache is there, and replace it.
        observed_bytes: memory for the tensors that are observed in one pass over the batches.

    Raises:
        CalibrationError: the graph or the batches are unusable, or the cache is damaged or was made from another
            model, other batches or another method.
        NothingToQuantize: no layer can be INT8.
        UnknownNameError: no observer has that name.
        UsageError: a pattern matches no layer, or the cache cannot be written.
    """
    if cache is not None:
        require_output_file(cache)
    observer_type = _observer_for(method)
    model = load_graph(onnx_path)
    policy = PlacementPolicy(tuple(include), tuple(exclude), ends_float)
    decisions = decide(model, find_quantizable_ops(model), policy)
    require_batches(model, batches)
    provenance = Provenance(sha256_of(onnx_path), tuple(map(digest_of, batches)), method)
    known = _known(cache, provenance, recalibrate)
    calibration = replace(known or Calibration(provenance, policy, {}, ()), policy=policy, decisions=decisions)
    layers = quantizable_layers(model)
    missing = [layer for layer in layers.values() if layer.op.activation not in calibration.ranges]
    for found in collect_ranges(model, missing, batches, observer_type, progress, observed_bytes) if missing else ():
        calibration = _with_found(calibration, found)
        if cache is not None:
            write_cache(cache, calibration)
    calibration = _without_silent(calibration, layers)
    if cache is not None:
        write_cache(cache, calibration)
    return calibration


def _observer_for(method: str) -> type[Observer] | None:
    """None for the search, which looks for clips in another way than any observer."""
    if method == SEARCH:
        return None
    names = [observer.name for observer in OBSERVERS]
    if method not in names:
        raise UnknownNameError("calibration method", method, [SEARCH, *names])
    return observer_named(method)


def _known(cache: Path | None, provenance: Provenance, recalibrate: bool) -> Calibration | None:
    if cache is None or not cache.exists() or recalibrate:
        return None
    cached = read_cache(cache)
    require_same(cache, cached.provenance, provenance)
    return cached


def _with_found(calibration: Calibration, found: Mapping[str, RangeSearchResult]) -> Calibration:
    ranges = {name: entry.range for name, entry in found.items()}
    corrections = {name: error for entry in found.values() for name, error in entry.corrections.items()}
    return replace(
        calibration,
        ranges={**calibration.ranges, **ranges},
        corrections={**calibration.corrections, **corrections},
    )


def quantize_onnx(
    onnx_path: Path,
    calibration: Calibration,
    out: Path,
    activation_type: ActivationType = ActivationType.INT8,
    float_precision: Precision = Precision.FP32,
    targets: Sequence[str] = (),
) -> Path:
    """Writes the INT8 graph of the model that was calibrated.

    Args:
        onnx_path: the float32 file that `calibration` was made from.
        calibration: from `calibrate` or `read_cache`.
        out: the file to write, whole or not at all.
        activation_type: S8 for TensorRT and ONNX Runtime, U8 for OpenVINO; the values are the same.
        float_precision: precision of everything that is not INT8: FP32, or FP16 with float32 islands.
        targets: runtimes that must take the graph, of those that read this spelling (`readers_of`).

    Returns:
        `out`.

    Raises:
        CalibrationError: the calibration belongs to another model file, or the result is not a valid graph.
        ExportError: a target refuses the graph; nothing is written.
    """
    found, wanted = sha256_of(onnx_path) if onnx_path.is_file() else None, calibration.provenance.model_sha256
    if found != wanted:
        instead = f"has {found[:12]}" if found else "is not a file"
        raise CalibrationError(
            f"the calibration was made for the model with the SHA-256 {wanted[:12]}, but {onnx_path} {instead}",
            found=found,
            wanted=wanted,
            remedy="calibrate this model",
        )
    model = quantized_model(load_graph(onnx_path), calibration, activation_type, float_precision)
    if targets:
        require_deployable(model, targets, static=False, intended=readers_of(activation_type))
    write_output(out, model.SerializeToString(deterministic=True))
    return out


def quantized_model(
    model: onnx.ModelProto, calibration: Calibration, activation_type: ActivationType, float_precision: Precision
) -> onnx.ModelProto:
    """As `quantize_onnx`, in memory and without asking whose calibration it is."""
    if float_precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"the float layers of an INT8 graph cannot be written in {float_precision}",
            found=float_precision,
            wanted=(Precision.FP32, Precision.FP16),
            remedy=f"choose {Precision.FP32} or {Precision.FP16}",
        )
    quantized = insert_qdq(model, calibration, activation_type)
    if float_precision is Precision.FP16:
        seen = observe_magnitudes(quantized, worst_cases_of(quantized), graph_controls(quantized))
        quantized = to_fp16(quantized, magnitudes=seen)
    _mark_int8(quantized)
    try:
        onnx.checker.check_model(quantized, full_check=True)
    except onnx.checker.ValidationError as error:
        raise CalibrationError(
            f"the INT8 graph is not valid ONNX ({' '.join(str(error).split())})",
            wanted="valid ONNX",
            remedy="report the network",
        ) from error
    return quantized


def _mark_int8(model: onnx.ModelProto) -> None:
    """Sets the precision in the metadata that our export wrote; a graph from elsewhere has none."""
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        write_metadata(model, replace(read_metadata(model), precision=Precision.INT8))


def _without_silent(calibration: Calibration, layers: Mapping[str, Layer]) -> Calibration:
    """Keeps layers float whose input was zero on every patch: there is nothing to take a scale from."""
    silent = [n for n in calibration.int8_nodes if calibration.ranges[layers[n].op.activation].clip == 0.0]
    calibration = calibration.keep_float(silent, "its input was zero on every calibration patch")
    if not calibration.int8_nodes:
        why = "; ".join(f"{d.node}: {d.reason}" for d in calibration.decisions[:3]) or "the graph has no weighted layer"
        raise NothingToQuantize(
            f"no layer can be INT8 ({why})",
            found={decision.node: decision.reason for decision in calibration.decisions},
            wanted="at least one INT8 layer",
            remedy="change include or exclude, or deploy the model in float",
        )
    return calibration

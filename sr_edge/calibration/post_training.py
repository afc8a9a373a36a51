"""The two steps to INT8: measure ranges once, then write graphs with any activation type and float precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from sr_edge.bundle.store import sha256_of
from sr_edge.calibration.config import require_known_method
from sr_edge.calibration.data.patch import StepProgress, digest_of
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.placement import PlacementPolicy, decide
from sr_edge.calibration.graph.probe import require_batches
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.calibration.ranges.collect import OBSERVED_BYTES, collect_ranges
from sr_edge.calibration.ranges.observers import Observer, observer_named
from sr_edge.calibration.ranges.search import SEARCH, RangeSearchResult
from sr_edge.calibration.result.cache import read_cache, require_same, write_cache
from sr_edge.calibration.result.calibration import Calibration, Provenance
from sr_edge.calibration.result.output import write_output
from sr_edge.errors import CalibrationError, NothingToQuantize, UsageError
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.graph.inner_tensors import observe_magnitudes, worst_cases_of
from sr_edge.export.graph.metadata import METADATA_KEY, graph_controls, read_metadata, write_metadata
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.files.whole_file import require_output_file
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType, Precision, member_of


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
    """Measures the INT8 ranges of all quantizable layers, and decides by rules which layers become INT8.

    The loss is not measured; see `calibrate_within`.

    Args:
        onnx_path: The float32 graph, with float NCHW or uint8 NHWC input.
        batches: float32 (1, channels, height, width) in [0, 1]. About 40 varied patches are recommended; 8 are too
            few.
        method: SEARCH, or the name of one of OBSERVERS.
        include: Glob patterns of node names; see PlacementPolicy.
        exclude: Glob patterns of node names; see PlacementPolicy.
        ends_float: Keeps the first and the last layer in float. Quantizing them usually causes the largest loss.
        progress: Called with (steps done, steps in all).
        cache: A JSON file that is written with the result, and during the work with the ranges so far. If it exists,
            its ranges are not measured again; the decisions are always made again, so that include and exclude may
            change.
        recalibrate: Measures all ranges and replaces the cache.
        observed_bytes: Memory for the tensors that are observed in one pass over the batches.

    Raises:
        CalibrationError: The graph or the batches cannot be used, or the cache is damaged or was made from another
            model, other batches or another method.
        NothingToQuantize: No layer can be INT8.
        UnknownNameError: No observer has that name.
        UsageError: A pattern matches no layer, or the cache cannot be written.
    """
    if cache is not None:
        require_output_file(cache)
    observer_type = _observer_for(method)
    model = load_graph(onnx_path)
    policy = PlacementPolicy(tuple(include), tuple(exclude), ends_float)
    decisions = decide(model, find_quantizable_ops(model), policy)
    require_batches(model, batches)
    provenance = Provenance(sha256_of(onnx_path), tuple(map(digest_of, batches)), method)
    cached = _cached(cache, provenance, recalibrate)
    calibration = replace(cached or Calibration(provenance, policy, {}, ()), policy=policy, decisions=decisions)
    layers = quantizable_layers(model)
    missing = [layer for layer in layers.values() if layer.op.activation not in calibration.ranges]
    passes = collect_ranges(model, missing, batches, observer_type, progress, observed_bytes) if missing else ()
    for results in passes:
        calibration = _with_results(calibration, results)
        if cache is not None:
            write_cache(cache, calibration)
    calibration = _without_zero_inputs(calibration, layers)
    if cache is not None:
        write_cache(cache, calibration)
    return calibration


def _observer_for(method: str) -> type[Observer] | None:
    """The observer type of that name; None for the search, which uses no observer."""
    if method == SEARCH:
        return None
    require_known_method(method)
    return observer_named(method)


def _cached(cache: Path | None, provenance: Provenance, recalibrate: bool) -> Calibration | None:
    if cache is None or not cache.exists() or recalibrate:
        return None
    cached = read_cache(cache)
    require_same(cache, cached.provenance, provenance)
    return cached


def _with_results(calibration: Calibration, results: Mapping[str, RangeSearchResult]) -> Calibration:
    ranges = {name: entry.range for name, entry in results.items()}
    corrections = {name: error for entry in results.values() for name, error in entry.corrections.items()}
    return replace(
        calibration,
        ranges={**calibration.ranges, **ranges},
        corrections={**calibration.corrections, **corrections},
    )


def quantize_onnx(
    onnx_path: Path,
    calibration: Calibration,
    out: Path,
    activation_type: ActivationType | str = ActivationType.INT8,
    float_precision: Precision | str = Precision.FP32,
    targets: Sequence[str] = (),
) -> Path:
    """Writes the INT8 graph of the model that was calibrated.

    Args:
        onnx_path: The float32 file that `calibration` was made from.
        calibration: From `calibrate` or `read_cache`.
        out: The file to write. It is written atomically.
        activation_type: INT8 for TensorRT and ONNX Runtime, UINT8 for OpenVINO; the values are the same.
        float_precision: The precision of all operators that are not INT8: FP32, or FP16 with float32 islands.
        targets: The runtimes that must accept the graph. Only those that read `activation_type` are checked; see
            `readers_of`.

    Returns:
        `out`.

    Raises:
        CalibrationError: The calibration belongs to another model file, or the result is not a valid graph.
        ExportError: A target refuses the graph; nothing is written.
    """
    activation_type = member_of(ActivationType, activation_type, "activation type")
    float_precision = member_of(Precision, float_precision, "float precision")
    digest, wanted = sha256_of(onnx_path) if onnx_path.is_file() else None, calibration.provenance.model_sha256
    if digest != wanted:
        instead = f"has {digest[:12]}" if digest else "is not a file"
        raise CalibrationError(
            f"the calibration was made for the model with the SHA-256 {wanted[:12]}, but {onnx_path} {instead}",
            found=digest,
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
    """Does the work of `quantize_onnx` in memory, without checking that the calibration belongs to the model.

    Raises:
        UsageError: The float layers cannot be written in the float precision.
        CalibrationError: The INT8 graph cannot be written.
    """
    if float_precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"the float layers of an INT8 graph cannot be written in {float_precision}",
            found=float_precision,
            wanted=(Precision.FP32, Precision.FP16),
            remedy=f"choose {Precision.FP32} or {Precision.FP16}",
        )
    quantized = insert_qdq(model, calibration, activation_type).model
    if float_precision is Precision.FP16:
        magnitudes = observe_magnitudes(quantized, worst_cases_of(quantized), graph_controls(quantized))
        quantized = to_fp16(quantized, magnitudes=magnitudes).model
    if quantized is model:  # no layer is INT8, and the caller's model must not get the metadata
        quantized = onnx.ModelProto()
        quantized.CopyFrom(model)
    _mark_int8(quantized)
    try:
        onnx.checker.check_model(quantized, full_check=True)
    except onnx.checker.ValidationError as error:
        raise CalibrationError(
            f"the INT8 graph is not valid ONNX ({' '.join(str(error).split())})",
            wanted="valid ONNX",
            remedy="please report this network to the sr_edge project",
        ) from error
    return quantized


def _mark_int8(model: onnx.ModelProto) -> None:
    """Sets the precision in the metadata of a graph from `sr-edge export`; other graphs have no metadata."""
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        write_metadata(model, replace(read_metadata(model), precision=Precision.INT8))


def _without_zero_inputs(calibration: Calibration, layers: Mapping[str, Layer]) -> Calibration:
    """Keeps layers float whose input was zero on every patch, since no scale can be derived from it."""
    zero_inputs = [n for n in calibration.int8_nodes if calibration.ranges[layers[n].op.activation].clip == 0.0]
    calibration = calibration.keep_float(zero_inputs, "its input was zero on every calibration patch")
    if not calibration.int8_nodes:
        reasons = "; ".join(f"{d.node}: {d.reason}" for d in calibration.decisions[:3])
        raise NothingToQuantize(
            f"no layer can be INT8 ({reasons or 'the graph has no layer with weights'})",
            found={decision.node: decision.reason for decision in calibration.decisions},
            wanted="at least one INT8 layer",
            remedy="change include or exclude, or deploy the model in float",
        )
    return calibration

"""Opens the sides of a comparison: every one becomes a session of one tile, whatever it was spelled as."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from sr_edge.bench.side_names import DEFAULT_RUNTIME, REAL_FLOAT16, TORCH, ModelKind, ModelSpec
from sr_edge.bundle import open_bundle
from sr_edge.controls import Controls, control_values
from sr_edge.errors import ExportError, PrecisionUnavailable, UsageError
from sr_edge.runtimes import SessionRequest, open_request, request_from_bundle
from sr_edge.runtimes.session import Batch
from sr_edge.spec import DEFAULT_TILE, FrameFormat, ModelCard, Precision, TileSpec


@dataclass(frozen=True)
class ComparisonOptions:
    """What sides are made and opened with; the first four are for PyTorch networks, as `sr-edge export` has them.

    `scale` None takes the other side's. A setting of `controls` is for the sides that have a control of that name.
    """

    scale: int | None = None
    weights: Path | None = None
    random_weights: bool = False
    input_range: float = 1.0
    device: str = "cpu"
    threads: int | None = None
    trusted_architecture: str = ""
    controls: Controls = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedModel:
    """A side that was found and read, and is not yet opened.

    `file_precision` is what its file is written in; bf16 is an fp32 file, computed in bf16. The tile of `request`
    is the side's own where `has_own_tile`.
    """

    name: ModelSpec
    runtime: str
    request: SessionRequest
    file_precision: Precision
    has_own_tile: bool


@dataclass(frozen=True)
class ModelProperties:
    """What ran, for tables and JSON: `ran` is read from the engine. `remarks` say what else one should know."""

    name: str
    runtime: str
    version: str
    requested: Precision
    ran: Precision
    float_precision_ran: Precision
    file: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenModel:
    """A side that runs: float32 (1, 3, height, width) in [0, 1] of its tile, to `scale` times as much."""

    properties: ModelProperties
    resolved: ResolvedModel
    run: Callable[[Batch], Batch]
    controls: Mapping[str, float]

    @property
    def card(self) -> ModelCard:
        return self.resolved.request.card


def resolve_models(
    reference: ModelSpec, candidate: ModelSpec, options: ComparisonOptions, stack: ExitStack
) -> tuple[ResolvedModel, ResolvedModel]:
    """Reads both sides; bundles, and the files made for PyTorch networks, stay open as long as `stack`.

    Raises:
        SrEdgeError: a side is not there, damaged, or does not fit the other; nothing was run.
    """
    names = (reference, candidate)
    resolved = [None if name.kind is ModelKind.TORCH else _find(name, options, stack) for name in names]
    scales = [compared.request.card.scale for compared in resolved if compared is not None]
    scaled = replace(options, scale=options.scale or next(iter(scales), None))
    ours, theirs = (
        compared or _find_torch(name, scaled, stack) for name, compared in zip(names, resolved, strict=True)
    )
    if ours.request.card.scale != theirs.request.card.scale:
        raise UsageError(
            f"{ours.name.text} has scale {ours.request.card.scale}, but {theirs.name.text} has scale "
            f"{theirs.request.card.scale}",
            found=theirs.request.card.scale,
            wanted=ours.request.card.scale,
            remedy="compare networks with the same scale",
        )
    _require_controls(options.controls, (ours, theirs))
    return ours, theirs


def _find(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    return _find_bundle(name, options, stack) if name.kind is ModelKind.BUNDLE else _find_file(name, options)


def _find_bundle(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    bundle = stack.enter_context(open_bundle(Path(name.target)))
    runtime = name.runtime or DEFAULT_RUNTIME
    request = request_from_bundle(
        bundle,
        DEFAULT_RUNTIME if runtime == REAL_FLOAT16 else runtime,
        name.precision or Precision.FP32,
        options.device,
        float_precision=name.float_precision,
        threads=options.threads,
        options=_trust(runtime, options),
    )
    files = {bundle.file(artifact): artifact.precision for artifact in bundle.manifest.artifacts}
    return ResolvedModel(name, runtime, request, files[request.artifact], has_own_tile=runtime != TORCH)


def _trust(runtime: str, options: ComparisonOptions) -> dict[str, str] | None:
    trusted = options.trusted_architecture
    return {"architecture": trusted} if trusted and runtime == TORCH else None


def _find_file(name: ModelSpec, options: ComparisonOptions) -> ResolvedModel:
    from sr_edge.export.file_facts import read_onnx_properties

    properties = read_onnx_properties(Path(name.target))
    wanted = name.precision or properties.precision
    if wanted is not properties.precision and (wanted, properties.precision) != (Precision.BF16, Precision.FP32):
        raise PrecisionUnavailable(
            f"{name.target} is written in {properties.precision} and cannot run in {wanted}",
            found=wanted,
            wanted=properties.precision,
            remedy="give a file with that precision (`sr-edge export --precision fp16`, `sr-edge calibrate`), or leave "
            "the precision out",
        )
    request = SessionRequest(
        artifact=Path(name.target),
        card=properties.card,
        tile=properties.tile or DEFAULT_TILE,
        precision=wanted,
        float_precision=properties.float_precision if name.float_precision is Precision.FP32 else name.float_precision,
        io=properties.io,
        device=options.device,
        threads=options.threads,
    )
    return ResolvedModel(
        name, name.runtime or DEFAULT_RUNTIME, request, properties.precision, has_own_tile=properties.tile is not None
    )


def _find_torch(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    """The network's weights go into a file of their own, so that the runtime opens it as it opens a bundle's."""
    from sr_edge.bench.torch_side import load_torch_model, write_torch_weights

    model = load_torch_model(name, options.scale, options.weights, options.random_weights, options.input_range)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sr-edge-compare-")))
    request = SessionRequest(
        artifact=write_torch_weights(model, folder),
        card=model.card,
        tile=DEFAULT_TILE,
        precision=name.precision or Precision.FP32,
        device=options.device,
        threads=options.threads,
        architecture=model.card.name,
        options={"architecture": model.card.name},
    )
    return ResolvedModel(name, TORCH, request, Precision.FP32, has_own_tile=False)


def _require_controls(controls: Controls, compared_models: tuple[ResolvedModel, ResolvedModel]) -> None:
    known = {control.name for compared in compared_models for control in compared.request.card.controls}
    strange = [name for name in controls if name not in known]
    if strange:
        raise UsageError(
            f"neither of the compared networks has a control {strange[0]!r}",
            found=strange[0],
            wanted=tuple(sorted(known)),
            remedy=f"choose one of: {', '.join(sorted(known))}" if known else f"leave out --set {strange[0]}",
        )


def common_tile(reference: ResolvedModel, candidate: ResolvedModel, wanted: TileSpec | None) -> TileSpec:
    """The tile that both sides take; `wanted` decides where neither has one of its own.

    Raises:
        UsageError: the sides have different tiles, or not the wanted one.
        TileError: a network does not take it.
    """
    own = {compared.name.text: compared.request.tile for compared in (reference, candidate) if compared.has_own_tile}
    tiles = set(own.values())
    if len(tiles) > 1:
        ours, theirs = own.values()
        raise UsageError(
            " and ".join(f"{text} takes tiles of {tile}" for text, tile in own.items()),
            found=(theirs.height, theirs.width),
            wanted=(ours.height, ours.width),
            remedy="export or deploy one of them again with the tile of the other",
        )
    tile = next(iter(tiles), wanted or DEFAULT_TILE)
    if wanted is not None and wanted != tile:
        raise UsageError(
            f"{next(iter(own))} takes tiles of {tile}, not {wanted}",
            found=(wanted.height, wanted.width),
            wanted=(tile.height, tile.width),
            remedy="leave out --tile",
        )
    for compared in (reference, candidate):
        tile.require_multiple_of(compared.request.card.multiple_px)
    return tile


def open_model(compared: ResolvedModel, tile: TileSpec, controls: Controls, stack: ExitStack) -> OpenModel:
    """Opens a side; it stays open as long as `stack`.

    Raises:
        RuntimeUnavailable, PrecisionUnavailable, EngineError: as `open_request`; a file that is computed in another
            precision than its own is run all the same, with a remark.
    """
    request = replace(compared.request, tile=tile)
    names = {control.name for control in request.card.controls}
    chosen = {name: value for name, value in controls.items() if name in names}
    setting = control_values(request.card.controls, chosen)
    if compared.runtime == REAL_FLOAT16:
        return _real_float16(replace(compared, request=request), setting)
    own = compared.file_precision is request.precision
    session = stack.enter_context(open_request(compared.runtime, replace(request, allow_other_precision=own)))
    spec = session.spec
    remarks = [spec.note] if spec.note else []
    if spec.ran is not request.precision:
        remarks.append(f"{spec.runtime} computes this {request.precision} file in {spec.ran} here")
    properties = ModelProperties(
        compared.name.text,
        spec.runtime,
        spec.version,
        spec.requested,
        spec.ran,
        spec.float_precision_ran,
        request.artifact.name if compared.runtime != TORCH else request.card.weights_source,
        tuple(remarks),
    )
    return OpenModel(
        properties, replace(compared, request=request), lambda batch: cast(Batch, session.run(batch, setting)), setting
    )


def _real_float16(compared: ResolvedModel, setting: Mapping[str, float]) -> OpenModel:
    from sr_edge.export.checks.float16 import run_float16
    from sr_edge.export.graph import picture_inputs, read_onnx
    from sr_edge.export.onnx_run import feed_of

    request = compared.request
    if request.inference_precision is not Precision.FP16 or request.io is not FrameFormat.FLOAT_NCHW:
        raise ExportError(
            f"{compared.name.target} is {compared.file_precision} with {request.io} frames, but real float16 "
            "arithmetic needs "
            "a graph in fp16 or int8+fp16 with float frames",
            found=(request.inference_precision, request.io),
            wanted=(Precision.FP16, FrameFormat.FLOAT_NCHW),
            remedy="export one with --precision fp16",
        )
    model = read_onnx(request.artifact)
    (picture,) = picture_inputs(model)

    def run(batch: Batch) -> Batch:
        (output,) = run_float16(model, feed_of(picture.name, batch, setting)).outputs.values()
        return cast(Batch, output)

    properties = ModelProperties(
        compared.name.text,
        REAL_FLOAT16,
        "",
        request.precision,
        request.precision,
        Precision.FP16,
        request.artifact.name,
    )
    return OpenModel(properties, compared, run, setting)

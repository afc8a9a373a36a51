"""Resolves and opens the two models of a comparison; each becomes a function from tile to upscaled tile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sr_edge.bench.compare.model_spec import DEFAULT_RUNTIME, REAL_FLOAT16, TORCH, ModelKind, ModelSpec
from sr_edge.bundle import Artifact, open_bundle
from sr_edge.controls import Controls, control_values
from sr_edge.errors import ExportError, PrecisionUnavailable, UsageError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.frames import Batch
from sr_edge.model_sources import NetworkChoice
from sr_edge.runtimes import SessionRequest, open_request, request_from_bundle
from sr_edge.spec import DEFAULT_TILE, FrameFormat, ModelCard, Precision, TileSpec, count_of_channels

if TYPE_CHECKING:
    from sr_edge.model_sources import OnnxModel


@dataclass(frozen=True)
class ComparisonOptions:
    """How the models are loaded and opened.

    Attributes:
        scale: scale of a PyTorch network; None takes that of the other model.
        weights: checkpoint of a PyTorch network.
        random_weights: whether to initialize a PyTorch network at random.
        input_range: 1 or 255, the range of the input of package.module:factory and of ONNX files; None finds it out for
            ONNX files, and is 1 for networks.
        channel_order: "rgb" or "bgr", the order of the channels of ONNX files.
        device: device of the runtime.
        threads: number of threads on the CPU; None leaves it to the runtime.
        trusted_architecture: a factory of the user, package.module:factory, that the torch runtime may call.
        controls: values for the models that have a control of that name.
    """

    scale: int | None = None
    weights: Path | None = None
    random_weights: bool = False
    input_range: float | None = None
    channel_order: str = "rgb"
    device: str = "cpu"
    threads: int | None = None
    trusted_architecture: str = ""
    controls: Controls = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files were read, and that is not yet open.

    Attributes:
        name: its specification.
        runtime: the runtime that opens it.
        request: how to open it.
        file_precision: precision of its file; bf16 runs an fp32 file.
        has_own_tile: whether the tile of `request` is fixed by the file.
        onnx: the ONNX file, from which the graph of another tile is made.
    """

    name: ModelSpec
    runtime: str
    request: SessionRequest
    file_precision: Precision
    has_own_tile: bool
    onnx: OnnxModel | None = None


@dataclass(frozen=True)
class ModelProperties:
    """What ran, for tables and JSON: `ran` is read from the engine, `remarks` are notes on it."""

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
    """An open model. `run` upscales a tile, float32 (1, channels, height, width) in [0, 1], by the card's scale."""

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
    """Reads both models; bundles and the files written for PyTorch networks exist until `stack` is closed.

    Raises:
        SrEdgeError: a model does not exist, is damaged, or does not match the other; nothing was run.
    """
    names = (reference, candidate)
    _require_effect(options, {name.kind for name in names})
    resolved = [None if name.kind is ModelKind.TORCH else _resolve(name, options, stack) for name in names]
    scales = [model.request.card.scale for model in resolved if model is not None]
    scaled = replace(options, scale=options.scale or next(iter(scales), None))
    reference_model, candidate_model = (
        model or _resolve_torch(name, scaled, stack) for name, model in zip(names, resolved, strict=True)
    )
    if reference_model.request.card.scale != candidate_model.request.card.scale:
        raise UsageError(
            f"{reference_model.name.text} has scale {reference_model.request.card.scale}, but "
            f"{candidate_model.name.text} has scale {candidate_model.request.card.scale}",
            found=candidate_model.request.card.scale,
            wanted=reference_model.request.card.scale,
            remedy="compare networks with the same scale",
        )
    channels = [model.request.card.channels for model in (reference_model, candidate_model)]
    if channels[0] != channels[1]:
        raise UsageError(
            f"{reference_model.name.text} takes {count_of_channels(channels[0])}, but {candidate_model.name.text} "
            f"takes {count_of_channels(channels[1])}",
            found=channels[1],
            wanted=channels[0],
            remedy="compare networks with the same channels",
        )
    _require_controls(options.controls, (reference_model, candidate_model))
    return reference_model, candidate_model


def _require_effect(options: ComparisonOptions, kinds: Collection[ModelKind]) -> None:
    """Raises UsageError for an option that applies to neither of the models."""
    if options.input_range is not None and set(kinds) == {ModelKind.BUNDLE}:
        raise UsageError(
            "--input-range is for ONNX files and your own networks, but both models are bundles",
            found=options.input_range,
            remedy="leave it out",
        )
    if options.channel_order != "rgb" and ModelKind.FILE not in kinds:
        raise UsageError(
            "--channel-order is for ONNX files, but neither model is one",
            found=options.channel_order,
            remedy="leave it out",
        )


def _resolve(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    return (
        _resolve_bundle(name, options, stack) if name.kind is ModelKind.BUNDLE else _resolve_onnx(name, options, stack)
    )


def _resolve_bundle(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
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


def _resolve_onnx(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    from sr_edge.model_sources import read_onnx_model

    model = read_onnx_model(Path(name.target), input_range=options.input_range, channel_order=options.channel_order)
    artifact, file = _onnx_artifact(model, name, model.default_tile, stack)
    float_precision = artifact.float_precision if name.float_precision is Precision.FP32 else name.float_precision
    request = SessionRequest(
        artifact=file,
        card=model.card,
        tile=model.default_tile,
        precision=name.precision or artifact.precision,
        float_precision=float_precision,
        activation_type=artifact.activation_type,
        io=artifact.io,
        device=options.device,
        threads=options.threads,
    )
    runtime = name.runtime or DEFAULT_RUNTIME
    return ResolvedModel(name, runtime, request, artifact.precision, model.fixed_tile is not None, model)


def _onnx_artifact(model: OnnxModel, name: ModelSpec, tile: TileSpec, stack: ExitStack) -> tuple[Artifact, Path]:
    """The graph of an ONNX file in the requested precision, the file's own by default, and where it was written."""
    from sr_edge.model_sources.onnx_bundle import write_artifacts

    folder = stack.enter_context(temporary_folder("compare"))
    artifacts = write_artifacts(model, tile, folder)
    wanted = Precision.FP32 if name.precision is Precision.BF16 else name.precision or model.precisions.precision
    for artifact in artifacts:
        if artifact.precision is wanted or (name.precision is None and len(artifacts) == 1):
            return artifact, folder / artifact.file
    raise PrecisionUnavailable(
        f"{name.target} is written in {model.precisions.precision} and cannot run in {name.precision}",
        found=name.precision,
        wanted=model.precisions.precision,
        remedy="give a file with that precision (`sr-edge export --precision fp16`, `sr-edge calibrate`), or leave "
        "the precision out",
    )


def _resolve_torch(name: ModelSpec, options: ComparisonOptions, stack: ExitStack) -> ResolvedModel:
    """Writes the network's weights to a file, so that the runtime opens it in the same way as a bundle's."""
    from sr_edge.bench.compare.torch_model import load_torch_model, write_torch_weights

    model = load_torch_model(
        NetworkChoice(
            name.target,
            options.scale,
            options.weights,
            options.random_weights,
            input_range=options.input_range,
        )
    )
    folder = stack.enter_context(temporary_folder("compare"))
    request = SessionRequest(
        artifact=write_torch_weights(model, folder),
        card=model.card,
        tile=DEFAULT_TILE,
        precision=name.precision or Precision.FP32,
        device=options.device,
        threads=options.threads,
        architecture=model.architecture,
        options={"architecture": model.architecture},
    )
    return ResolvedModel(name, TORCH, request, Precision.FP32, has_own_tile=False)


def _require_controls(controls: Controls, compared_models: tuple[ResolvedModel, ResolvedModel]) -> None:
    available = {control.name for model in compared_models for control in model.request.card.controls}
    unknown = [name for name in controls if name not in available]
    if unknown:
        raise UsageError(
            f"neither of the compared networks has a control {unknown[0]!r}",
            found=unknown[0],
            wanted=tuple(sorted(available)),
            remedy=f"choose one of: {', '.join(sorted(available))}" if available else f"leave out --set {unknown[0]}",
        )


def common_tile(reference: ResolvedModel, candidate: ResolvedModel, requested: TileSpec | None) -> TileSpec:
    """The tile of both models; `requested` is used if neither has its own.

    Raises:
        UsageError: the models have different tiles, or another one than `requested`.
        TileError: a network does not support the tile.
    """
    fixed_tiles = {model.name.text: model.request.tile for model in (reference, candidate) if model.has_own_tile}
    tiles = set(fixed_tiles.values())
    if len(tiles) > 1:
        first, second = fixed_tiles.values()
        raise UsageError(
            " and ".join(f"{text} takes tiles of {tile}" for text, tile in fixed_tiles.items()),
            found=(second.height, second.width),
            wanted=(first.height, first.width),
            remedy="export or deploy one of them again with the tile of the other",
        )
    tile = next(iter(tiles), requested or DEFAULT_TILE)
    if requested is not None and requested != tile:
        raise UsageError(
            f"{next(iter(fixed_tiles))} takes tiles of {tile}, not {requested}",
            found=(requested.height, requested.width),
            wanted=(tile.height, tile.width),
            remedy="leave out --tile",
        )
    for model in (reference, candidate):
        tile.require_multiple_of(model.request.card.multiple_px)
    return tile


def open_model(compared: ResolvedModel, tile: TileSpec, controls: Controls, stack: ExitStack) -> OpenModel:
    """Opens a model, which stays open until `stack` is closed.

    A file that the runtime computes in another precision than its own runs nevertheless, with a remark.

    Raises:
        RuntimeUnavailable, PrecisionUnavailable, EngineError: as `open_request` raises them.
    """
    request = _request_of_tile(compared, tile, stack)
    names = {control.name for control in request.card.controls}
    settings = {name: value for name, value in controls.items() if name in names}
    setting = control_values(request.card.controls, settings)
    if compared.runtime == REAL_FLOAT16:
        return _real_float16(replace(compared, request=request), setting)
    is_file_precision = compared.file_precision is request.precision
    session = stack.enter_context(
        open_request(compared.runtime, replace(request, allow_other_precision=is_file_precision))
    )
    spec = session.spec
    remarks = list(compared.onnx.changes) if compared.onnx else []
    remarks += [spec.note] if spec.note else []
    if spec.ran is not request.precision:
        remarks.append(f"{spec.runtime} computes this {request.precision} file in {spec.ran} here")
    properties = ModelProperties(
        compared.name.text,
        spec.runtime,
        spec.version,
        spec.requested,
        spec.ran,
        spec.float_precision_ran,
        _file_name(compared),
        tuple(remarks),
    )
    return OpenModel(
        properties, replace(compared, request=request), lambda batch: cast(Batch, session.run(batch, setting)), setting
    )


def _request_of_tile(compared: ResolvedModel, tile: TileSpec, stack: ExitStack) -> SessionRequest:
    if compared.onnx is None or tile == compared.request.tile:
        return replace(compared.request, tile=tile)
    _, file = _onnx_artifact(compared.onnx, compared.name, tile, stack)
    return replace(compared.request, tile=tile, artifact=file)


def _file_name(compared: ResolvedModel) -> str:
    if compared.runtime == TORCH:
        return compared.request.card.weights_source
    return compared.onnx.path.name if compared.onnx else compared.request.artifact.name


def _real_float16(compared: ResolvedModel, setting: Mapping[str, float]) -> OpenModel:
    from sr_edge.export.checks.float16 import run_float16
    from sr_edge.export.graph.inputs import feed_of
    from sr_edge.export.graph.view import picture_inputs, read_onnx

    request = compared.request
    if request.inference_precision is not Precision.FP16 or request.io is not FrameFormat.FLOAT_NCHW:
        raise ExportError(
            f"{compared.name.target} is {compared.file_precision} with {request.io} frames, but real float16 "
            "arithmetic needs a graph in fp16 or int8+fp16 with float frames",
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
        _file_name(compared),
        compared.onnx.changes if compared.onnx else (),
    )
    return OpenModel(properties, compared, run, setting)

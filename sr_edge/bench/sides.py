"""Opens the sides of a comparison: every one becomes a session of one tile, whatever it was spelled as."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from sr_edge.bench.side_names import JUDGE, REAL_FLOAT16, TORCH, Kind, SideName
from sr_edge.bundle import open_bundle
from sr_edge.controls import Controls, control_values
from sr_edge.errors import ExportError, PrecisionUnavailable, UsageError
from sr_edge.runtimes import SessionRequest, open_request, request_from_bundle
from sr_edge.runtimes.session import Batch
from sr_edge.spec import USUAL_TILE, FrameFormat, ModelCard, Precision, TileSpec


@dataclass(frozen=True)
class SideOptions:
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
class FoundSide:
    """A side that was found and read, and is not yet opened.

    `file_precision` is what its file is written in; bf16 is an fp32 file, computed in bf16. The tile of `request`
    is the side's own where `has_own_tile`.
    """

    name: SideName
    runtime: str
    request: SessionRequest
    file_precision: Precision
    has_own_tile: bool


@dataclass(frozen=True)
class SideFacts:
    """What ran, for tables and JSON: `ran` is read from the engine. `remarks` say what else one should know."""

    name: str
    runtime: str
    version: str
    requested: Precision
    ran: Precision
    rest_ran: Precision
    file: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenSide:
    """A side that runs: float32 (1, 3, height, width) in [0, 1] of its tile, to `scale` times as much."""

    facts: SideFacts
    found: FoundSide
    run: Callable[[Batch], Batch]
    controls: Mapping[str, float]

    @property
    def card(self) -> ModelCard:
        return self.found.request.card


def find_sides(
    first: SideName, second: SideName, options: SideOptions, stack: ExitStack
) -> tuple[FoundSide, FoundSide]:
    """Reads both sides; bundles, and the files made for PyTorch networks, stay open as long as `stack`.

    Raises:
        SrEdgeError: a side is not there, damaged, or does not fit the other; nothing was run.
    """
    names = (first, second)
    found = [None if name.kind is Kind.TORCH else _find(name, options, stack) for name in names]
    scales = [side.request.card.scale for side in found if side is not None]
    scaled = replace(options, scale=options.scale or next(iter(scales), None))
    ours, theirs = (side or _find_torch(name, scaled, stack) for name, side in zip(names, found, strict=True))
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


def _find(name: SideName, options: SideOptions, stack: ExitStack) -> FoundSide:
    return _find_bundle(name, options, stack) if name.kind is Kind.BUNDLE else _find_file(name, options)


def _find_bundle(name: SideName, options: SideOptions, stack: ExitStack) -> FoundSide:
    bundle = stack.enter_context(open_bundle(Path(name.target)))
    runtime = name.runtime or JUDGE
    request = request_from_bundle(
        bundle,
        JUDGE if runtime == REAL_FLOAT16 else runtime,
        name.precision or Precision.FP32,
        options.device,
        rest=name.rest,
        threads=options.threads,
        options=_trust(runtime, options),
    )
    files = {bundle.file(artifact): artifact.precision for artifact in bundle.manifest.artifacts}
    return FoundSide(name, runtime, request, files[request.artifact], has_own_tile=runtime != TORCH)


def _trust(runtime: str, options: SideOptions) -> dict[str, str] | None:
    trusted = options.trusted_architecture
    return {"architecture": trusted} if trusted and runtime == TORCH else None


def _find_file(name: SideName, options: SideOptions) -> FoundSide:
    from sr_edge.export.file_facts import file_facts

    facts = file_facts(Path(name.target))
    wanted = name.precision or facts.precision
    if wanted is not facts.precision and (wanted, facts.precision) != (Precision.BF16, Precision.FP32):
        raise PrecisionUnavailable(
            f"{name.target} is written in {facts.precision} and cannot run in {wanted}",
            found=wanted,
            wanted=facts.precision,
            remedy="give a file with that precision (`sr-edge export --precision fp16`, `sr-edge calibrate`), or leave "
            "the precision out",
        )
    request = SessionRequest(
        artifact=Path(name.target),
        card=facts.card,
        tile=facts.tile or USUAL_TILE,
        precision=wanted,
        rest=facts.rest if name.rest is Precision.FP32 else name.rest,
        io=facts.io,
        device=options.device,
        threads=options.threads,
    )
    return FoundSide(name, name.runtime or JUDGE, request, facts.precision, has_own_tile=facts.tile is not None)


def _find_torch(name: SideName, options: SideOptions, stack: ExitStack) -> FoundSide:
    """The network's weights go into a file of their own, so that the runtime opens it as it opens a bundle's."""
    from sr_edge.bench.torch_side import load_side, write_side

    model = load_side(name, options.scale, options.weights, options.random_weights, options.input_range)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sr-edge-compare-")))
    request = SessionRequest(
        artifact=write_side(model, folder),
        card=model.card,
        tile=USUAL_TILE,
        precision=name.precision or Precision.FP32,
        device=options.device,
        threads=options.threads,
        architecture=model.card.name,
        options={"architecture": model.card.name},
    )
    return FoundSide(name, TORCH, request, Precision.FP32, has_own_tile=False)


def _require_controls(controls: Controls, sides: tuple[FoundSide, FoundSide]) -> None:
    known = {control.name for side in sides for control in side.request.card.controls}
    strange = [name for name in controls if name not in known]
    if strange:
        raise UsageError(
            f"neither of the compared networks has a control {strange[0]!r}",
            found=strange[0],
            wanted=tuple(sorted(known)),
            remedy=f"choose one of: {', '.join(sorted(known))}" if known else f"leave out --set {strange[0]}",
        )


def common_tile(first: FoundSide, second: FoundSide, wanted: TileSpec | None) -> TileSpec:
    """The tile that both sides take; `wanted` decides where neither has one of its own.

    Raises:
        UsageError: the sides have different tiles, or not the wanted one.
        TileError: a network does not take it.
    """
    own = {side.name.text: side.request.tile for side in (first, second) if side.has_own_tile}
    tiles = set(own.values())
    if len(tiles) > 1:
        ours, theirs = own.values()
        raise UsageError(
            " and ".join(f"{text} takes tiles of {tile}" for text, tile in own.items()),
            found=(theirs.height, theirs.width),
            wanted=(ours.height, ours.width),
            remedy="export or deploy one of them again with the tile of the other",
        )
    tile = next(iter(tiles), wanted or USUAL_TILE)
    if wanted is not None and wanted != tile:
        raise UsageError(
            f"{next(iter(own))} takes tiles of {tile}, not {wanted}",
            found=(wanted.height, wanted.width),
            wanted=(tile.height, tile.width),
            remedy="leave out --tile",
        )
    for side in (first, second):
        tile.require_multiple_of(side.request.card.multiple_px)
    return tile


def open_side(side: FoundSide, tile: TileSpec, controls: Controls, stack: ExitStack) -> OpenSide:
    """Opens a side; it stays open as long as `stack`.

    Raises:
        RuntimeUnavailable, PrecisionUnavailable, EngineError: as `open_request`; a file that is computed in another
            precision than its own is run all the same, with a remark.
    """
    request = replace(side.request, tile=tile)
    names = {control.name for control in request.card.controls}
    chosen = {name: value for name, value in controls.items() if name in names}
    setting = control_values(request.card.controls, chosen)
    if side.runtime == REAL_FLOAT16:
        return _real_float16(replace(side, request=request), setting)
    own = side.file_precision is request.precision
    session = stack.enter_context(open_request(side.runtime, replace(request, allow_other_precision=own)))
    spec = session.spec
    remarks = [spec.note] if spec.note else []
    if spec.ran is not request.precision:
        remarks.append(f"{spec.runtime} computes this {request.precision} file in {spec.ran} here")
    facts = SideFacts(
        side.name.text,
        spec.runtime,
        spec.version,
        spec.requested,
        spec.ran,
        spec.rest_ran,
        request.artifact.name if side.runtime != TORCH else request.card.weights_source,
        tuple(remarks),
    )
    return OpenSide(
        facts, replace(side, request=request), lambda batch: cast(Batch, session.run(batch, setting)), setting
    )


def _real_float16(side: FoundSide, setting: Mapping[str, float]) -> OpenSide:
    from sr_edge.export.checks.float16 import run_float16
    from sr_edge.export.graph import picture_inputs, read_onnx
    from sr_edge.export.onnx_run import feed_of

    request = side.request
    if request.float_precision is not Precision.FP16 or request.io is not FrameFormat.FLOAT_NCHW:
        raise ExportError(
            f"{side.name.target} is {side.file_precision} with {request.io} frames, but real float16 arithmetic needs "
            "a graph in fp16 or int8+fp16 with float frames",
            found=(request.float_precision, request.io),
            wanted=(Precision.FP16, FrameFormat.FLOAT_NCHW),
            remedy="export one with --precision fp16",
        )
    model = read_onnx(request.artifact)
    (picture,) = picture_inputs(model)

    def run(batch: Batch) -> Batch:
        (output,) = run_float16(model, feed_of(picture.name, batch, setting)).outputs.values()
        return cast(Batch, output)

    facts = SideFacts(
        side.name.text, REAL_FLOAT16, "", request.precision, request.precision, Precision.FP16, request.artifact.name
    )
    return OpenSide(facts, side, run, setting)

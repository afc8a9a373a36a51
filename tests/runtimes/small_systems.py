"""Every architecture as a bundle: its smallest network, static, at its smallest tile, in the precisions of INT8 work.

Made without the comparisons of `export_onnx` and the measurements of `deploy`, which have tests of their own: they
would take most of the time here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from sr_edge.bundle import Artifact, ArtifactKind, Manifest, sha256_of, staging_folder, write_bundle
from sr_edge.bundle.writing import write_weights
from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.export import to_fp16, to_static
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.architectures.swinir import SWINIR_SIZES, SwinIR
from sr_edge.models.loading.load import innermost
from sr_edge.models.registry import find_architecture
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec

SCALE = 2
LEAST_SIDE_PX = 16
FEWER_LAYERS = {"swinir-light": f"{__name__}:swinir"}
"""For architectures without a tiny size, whose many equal layers would take long to compile."""


def swinir() -> SwinIR:
    return SwinIR(replace(SWINIR_SIZES["light"], depths=(2,)))


@dataclass(frozen=True)
class System:
    """A network, and the bundle that it was written to."""

    model: LoadedModel
    tile: TileSpec
    bundle: Path

    def graph(self, precision: Precision, float_precision: Precision = Precision.FP32) -> Path:
        """The file of that precision; for INT8 with INT8 activations and that precision of the float layers."""
        return self.bundle / _file(precision, float_precision)

    def options(self, runtime: str) -> dict[str, str] | None:
        """What `open_session` needs to build a network that is not registered."""
        return {"architecture": self.model.card.name} if runtime == "torch" and ":" in self.model.card.name else None


def _file(
    precision: Precision,
    float_precision: Precision = Precision.FP32,
    activation_type: ActivationType = ActivationType.INT8,
) -> str:
    return f"int8-{activation_type}-{float_precision}.onnx" if precision is Precision.INT8 else f"{precision}.onnx"


def write_system(name: str, folder: Path) -> System:
    """Writes the bundle of a registered network, or of the one that stands for it."""
    instead = FEWER_LAYERS.get(name)
    model = load_model(None if instead else name, SCALE, random_weights=True, arch=instead)
    side_px = max(LEAST_SIDE_PX, 1 if instead else find_architecture(name)[0].multiple_px)
    tile, out = TileSpec(side_px, side_px), folder / "small.sredge"
    with staging_folder(out) as staging:
        artifacts = (*_graphs(model, tile, staging), _weights(model, tile, staging))
        write_bundle(out, Manifest(model.card, tile, artifacts, architecture=model.card.name), staging)
    return System(model, tile, out)


def _graphs(model: LoadedModel, tile: TileSpec, folder: Path) -> Iterator[Artifact]:
    fp32, fp16, int8 = Precision.FP32, Precision.FP16, Precision.INT8
    base = folder / _file(fp32)
    floats = simplify(trace(to_static(model.module, tile.height, tile.width), tile)).model
    write_metadata(floats, GraphMetadata(model.card, Form.STATIC, fp32, FrameFormat.FLOAT_NCHW, tile, "", ""))
    onnx.save(floats, base)
    yield _artifact(base, ArtifactKind.ONNX, tile)
    half = folder / _file(fp16)
    onnx.save(to_fp16(floats).model, half)
    yield _artifact(half, ArtifactKind.ONNX, tile, fp16, fp16)
    calibration = calibrate(base, worst_case_patches(tile))
    for activation_type, float_precision in (
        (ActivationType.INT8, fp32),
        (ActivationType.UINT8, fp32),
        (ActivationType.INT8, fp16),
    ):
        quantized = folder / _file(int8, float_precision, activation_type)
        quantize_onnx(base, calibration, quantized, activation_type, float_precision)
        yield _artifact(quantized, ArtifactKind.ONNX, tile, int8, float_precision, activation_type)


def _weights(model: LoadedModel, tile: TileSpec, folder: Path) -> Artifact:
    file = folder / "weights.safetensors"
    write_weights(file, {name: value.numpy() for name, value in innermost(model.module).state_dict().items()})
    return _artifact(file, ArtifactKind.WEIGHTS, tile)


def _artifact(
    file: Path,
    kind: ArtifactKind,
    tile: TileSpec,
    precision: Precision = Precision.FP32,
    float_precision: Precision = Precision.FP32,
    activation_type: ActivationType | None = None,
) -> Artifact:
    shape = (1, 3, tile.height, tile.width)
    return Artifact(
        file.name, kind, precision, float_precision, activation_type, FrameFormat.FLOAT_NCHW, shape, sha256_of(file)
    )

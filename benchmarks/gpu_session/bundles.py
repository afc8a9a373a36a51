"""Bundles of bundled networks with nothing in them but what a GPU runs, so that they are quick to copy."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from sr_edge.bundle import Artifact, ArtifactKind, open_bundle, staging_folder, write_bundle
from sr_edge.deploy import deploy_network
from sr_edge.deploy.plan import DeployPlan
from sr_edge.models import load_model
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


def write_slim_bundle(name: str, scale: int, tile: str, out: Path) -> None:
    """Deploys a bundled network as `sr-edge deploy` does and keeps the artifacts that a session measures."""
    out.parent.mkdir(parents=True, exist_ok=True)
    plan = DeployPlan(
        TileSpec.parse(tile), runtimes=(), precisions=PRECISIONS, with_memory=False, with_tile_needs=False
    )
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / out.name
        deploy_network(load_model(name, scale), None, whole, plan)
        slim_bundle(whole, out)


def slim_bundle(whole: Path, out: Path) -> None:
    """Writes the bundle `whole` again without weights, fp32 and what is for other runtimes."""
    with open_bundle(whole) as bundle, staging_folder(out) as staging:
        kept = tuple(artifact for artifact in bundle.manifest.artifacts if is_measured(artifact))
        manifest = dataclasses.replace(bundle.manifest, artifacts=kept, architecture="")
        for file in manifest.digests():
            target = staging / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / file, target)
        write_bundle(out, manifest, staging)


def is_measured(artifact: Artifact) -> bool:
    """fp16 with both kinds of frames; INT8 of float frames with INT8 activations and fp16 float layers."""
    if artifact.kind is not ArtifactKind.ONNX:
        return False
    is_int8 = (artifact.precision, artifact.float_precision, artifact.activation_type) == (
        Precision.INT8,
        Precision.FP16,
        ActivationType.INT8,
    )
    return artifact.precision is Precision.FP16 or (is_int8 and artifact.io is FrameFormat.FLOAT_NCHW)

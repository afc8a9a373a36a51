"""Builds the manifest of a new bundle, and writes the weights of the network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from sr_edge.bench.environment import tool_versions
from sr_edge.bundle import Artifact, ArtifactKind, CalibrationRecord, GoldenFrame, Manifest, PassMeasurement, sha256_of
from sr_edge.bundle.writing import write_weights
from sr_edge.calibration import Calibration
from sr_edge.deploy.graphs import CACHE_FILE, GraphFile
from sr_edge.deploy.plan import DeployPlan
from sr_edge.models import LoadedModel
from sr_edge.models.loading.load import innermost
from sr_edge.spec import FrameFormat, ModelCard, Precision

WEIGHTS_FILE = "weights.safetensors"


def write_network_weights(model: LoadedModel, staging: Path) -> None:
    """Writes the state dict of the network, for the torch runtime."""
    state = model.state if model.state is not None else innermost(model.module).state_dict()
    write_weights(staging / WEIGHTS_FILE, {name: value.cpu().numpy() for name, value in state.items()})


def build_manifest(
    card: ModelCard,
    architecture: str,
    plan: DeployPlan,
    graphs: Sequence[GraphFile],
    calibration: Calibration | None,
    golden: tuple[GoldenFrame, ...],
    left_out: Mapping[Precision, str],
    passes: Sequence[PassMeasurement],
    staging: Path,
) -> Manifest:
    """Builds the manifest of the files in `staging`.

    Args:
        card: The model card.
        architecture: The name from which PyTorch rebuilds the network; empty if it cannot, and then the bundle has
            no weights.
        plan: The deployment.
        graphs: The ONNX files.
        calibration: The calibration of the INT8 graphs, if any.
        golden: The golden frames.
        left_out: The precisions that the bundle does not have, with the reasons.
        passes: What the passes gain in each runtime in which they were timed.
        staging: The folder with the files.
    """
    shape = (1, card.channels, plan.tile.height, plan.tile.width)
    artifacts = [artifact_of(graph, shape, staging) for graph in graphs]
    if architecture:
        artifacts.append(
            Artifact(
                WEIGHTS_FILE,
                ArtifactKind.WEIGHTS,
                Precision.FP32,
                Precision.FP32,
                None,
                FrameFormat.FLOAT_NCHW,
                shape,
                sha256_of(staging / WEIGHTS_FILE),
            )
        )
    return Manifest(
        card=card,
        tile=plan.tile,
        artifacts=tuple(artifacts),
        golden=golden,
        architecture=architecture,
        calibration=_calibration_record(calibration, staging) if calibration else None,
        tools=tool_versions(),
        licences=_licences(card),
        left_out={str(precision): reason for precision, reason in left_out.items()},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        passes=tuple(passes),
    ).with_sizes(staging)


def artifact_of(graph: GraphFile, shape: tuple[int, int, int, int], staging: Path) -> Artifact:
    """The entry of an ONNX file in `staging`."""
    return Artifact(
        graph.file,
        ArtifactKind.ONNX,
        graph.precision,
        graph.float_precision,
        graph.activation_type,
        graph.io,
        shape,
        sha256_of(staging / graph.file),
        graph.runtimes,
        graph.passes,
        graph.nv12_colour,
    )


def _licences(card: ModelCard) -> dict[str, str]:
    weights = {"weights": card.licence or "not stated by their author"}
    return {**weights, "architecture": card.architecture_licence} if card.architecture_licence else weights


def _calibration_record(calibration: Calibration, staging: Path) -> CalibrationRecord:
    provenance = calibration.provenance
    return CalibrationRecord(
        method=provenance.method,
        patches=len(provenance.patches_sha256),
        patches_sha256=hashlib.sha256("".join(provenance.patches_sha256).encode()).hexdigest(),
        float_layers={decision.node: decision.reason for decision in calibration.decisions if not decision.int8},
        cache=CACHE_FILE,
        cache_sha256=sha256_of(staging / CACHE_FILE),
    )

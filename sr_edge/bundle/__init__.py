"""The deployable unit: one folder or .zip with a model, its golden frames and its provenance."""

from __future__ import annotations

from sr_edge.bundle.entries import (
    GOLDEN_MIN_PSNR_DB,
    Artifact,
    ArtifactKind,
    CalibrationRecord,
    GoldenFrame,
    PassMeasurement,
)
from sr_edge.bundle.manifest import Manifest
from sr_edge.bundle.recommendation import Fingerprint, RecommendedEngine
from sr_edge.bundle.store import Bundle, is_bundle_folder, open_bundle, sha256_of
from sr_edge.bundle.writing import staging_folder, write_bundle

__all__ = [
    "GOLDEN_MIN_PSNR_DB",
    "Artifact",
    "ArtifactKind",
    "Bundle",
    "CalibrationRecord",
    "Fingerprint",
    "GoldenFrame",
    "Manifest",
    "PassMeasurement",
    "RecommendedEngine",
    "is_bundle_folder",
    "open_bundle",
    "sha256_of",
    "staging_folder",
    "write_bundle",
]

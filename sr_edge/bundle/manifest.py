"""The manifest of a bundle: the dataclass of manifest.json, validated on construction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from sr_edge.bundle.consistency import require_consistent, require_finite_numbers
from sr_edge.bundle.entries import Artifact, CalibrationRecord, GoldenFrame, PassMeasurement
from sr_edge.bundle.plain import to_plain
from sr_edge.bundle.recommendation import RecommendedEngine
from sr_edge.errors import BundleError
from sr_edge.spec import ModelCard, TileSpec

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Everything that a device needs to know to run the bundle.

    Attributes:
        card: Description of the network.
        tile: Input size of the graphs.
        artifacts: Files that runtimes can open.
        golden: Frames for the self-test.
        architecture: Model name or `package.module:factory` from which the torch runtime builds the network for the
            weights artifact; empty if the bundle has no weights.
        calibration: Origin of the INT8 scales; None without an INT8 graph.
        tools: Version of each program that was used.
        licences: Licence of each part.
        left_out: Reason for each precision that was tried but cannot be used.
        created: Date of creation.
        schema_version: Version of this format.
        sizes: Bytes of each file that the manifest lists. `write_bundle` determines them.
        passes: What the passes that make graphs faster gain in each runtime in which they were timed.
        recommendations: What to run in each runtime where the bundle was measured, the fastest first.
    """

    card: ModelCard
    tile: TileSpec
    artifacts: tuple[Artifact, ...]
    golden: tuple[GoldenFrame, ...] = ()
    architecture: str = ""
    calibration: CalibrationRecord | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = SCHEMA_VERSION
    sizes: Mapping[str, int] = field(default_factory=dict)
    passes: tuple[PassMeasurement, ...] = ()
    recommendations: tuple[RecommendedEngine, ...] = ()

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise BundleError("the manifest lists no artifacts", found=0, wanted=1, remedy="deploy again")
        names = [artifact.file for artifact in self.artifacts]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise BundleError(
                f"the manifest lists these files more than once: {', '.join(repeated)}",
                found=repeated,
                wanted="each file once",
                remedy="deploy again",
            )
        self._require_possible_files()
        require_finite_numbers(self, "manifest")
        require_consistent(self.card, self.tile, self.artifacts, self.golden)

    def _require_possible_files(self) -> None:
        """Raises BundleError if a path is the manifest's own, or a folder in the path of another file."""
        files = self.digests()
        folders = {str(folder) for file in files for folder in PurePosixPath(file).parents}
        impossible = sorted(file for file in files if file in folders or file == MANIFEST_NAME)
        if impossible:
            raise BundleError(
                f"the manifest lists {impossible[0]!r} as a file of the bundle, which it cannot be",
                found=impossible,
                wanted="files beside the manifest",
                remedy="deploy again",
            )

    def with_sizes(self, folder: Path) -> Manifest:
        """A copy with the sizes of the listed files, as they are in `folder`."""
        return replace(self, sizes={file: (folder / file).stat().st_size for file in self.digests()})

    def __repr__(self) -> str:
        return f"<Manifest {self}>"

    def __str__(self) -> str:
        """What the bundle has: "convnet-tiny x2, tile 96x96, fp32 fp16 int8"."""
        precisions = " ".join(dict.fromkeys(str(artifact.precision) for artifact in self.artifacts))
        return f"{self.card.name} x{self.card.scale}, tile {self.tile}, {precisions}"

    @property
    def pass_lines(self) -> tuple[str, ...]:
        """What the passes gain, in a line for each runtime in which they were timed."""
        runtimes = dict.fromkeys(measurement.runtime for measurement in self.passes)
        return tuple(
            f"{runtime}: {'; '.join(str(each) for each in self.passes if each.runtime == runtime)}"
            for runtime in runtimes
        )

    def digest(self) -> str:
        """SHA-256 of all that decides what a bundle computes: card, tile, and the digests of the files."""
        content = [to_plain(self.card), to_plain(self.tile), self.digests()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that the manifest lists, by its path inside the bundle."""
        digests = {artifact.file: artifact.sha256 for artifact in self.artifacts}
        for frame in self.golden:
            digests[frame.input] = frame.input_sha256
            digests[frame.output] = frame.output_sha256
        if self.calibration is not None:
            digests[self.calibration.cache] = self.calibration.cache_sha256
        return digests

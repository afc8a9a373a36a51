"""Results of a benchmark: one row for each runtime and precision, including those that could not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sr_edge.bench.environment import Environment
from sr_edge.bench.golden import SelfTest
from sr_edge.bench.operator_times.census import Census
from sr_edge.bench.quality import HrScores
from sr_edge.bundle import RecommendedEngine
from sr_edge.errors import FrameError, RuntimeUnavailable
from sr_edge.runtimes import SessionSpec, StageLatency, StartUp
from sr_edge.runtimes.measure.memory_probe import Memory
from sr_edge.runtimes.tensorrt.session import DeviceLatency, DeviceMemory
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import ModelCard, TileSpec


@dataclass(frozen=True)
class Quality:
    """Image quality of a variant.

    Attributes:
        psnr_float_db: PSNR of 8-bit outputs against the float reference; infinite if equal, None without golden tiles.
        tiles: number of golden tiles.
        hr: scores against the originals; None without originals.
        cost_db: PSNR that the noise against fp32 costs a good network; None if not measured (`sr_edge.bench.report`).
    """

    psnr_float_db: float | None
    tiles: int
    hr: HrScores | None = None
    cost_db: float | None = None


@dataclass(frozen=True)
class DeviceFigures:
    """Latency of one tile at a time by the device's own clock, and the session's memory on the device."""

    latency: DeviceLatency
    memory: DeviceMemory


@dataclass(frozen=True)
class Row:
    """The results of one variant; what was not measured is None.

    Attributes:
        variant: The runtime and the requested precision.
        spec: What ran.
        start_up: Time until the first output.
        latency: Times of one tile at a time.
        memory: Memory of a new process.
        quality: Scores of the output.
        self_test: Comparison with the golden frames.
        reason: why the variant could not run; empty if it ran.
        remarks: notes that belong to its figures.
        on_device: measurements by a GPU; None for other devices.
        census: where its time goes layer by layer; None if not measured.
        rounds_ms: the samples of `latency` by round; within a round, the variants run directly after each other.
    """

    variant: Variant
    spec: SessionSpec | None = None
    start_up: StartUp | None = None
    latency: StageLatency | None = None
    memory: Memory | None = None
    quality: Quality | None = None
    self_test: SelfTest | None = None
    reason: str = ""
    remarks: tuple[str, ...] = ()
    on_device: DeviceFigures | None = None
    rounds_ms: tuple[float, ...] = ()
    census: Census | None = None

    @property
    def tiles_per_s(self) -> float | None:
        """Tiles per second, one at a time, at the median latency."""
        return 1e3 / self.latency.total.p50_ms if self.latency else None


@dataclass(frozen=True)
class BenchReport:
    """All rows of one benchmark, with what is needed to reproduce them.

    Attributes:
        card: The network.
        tile: Input size of the graphs.
        environment: Where and when it was measured.
        warm_up: Untimed runs of each variant before the timed ones.
        rows: One row for each variant.
        rounds: timed runs of each variant; 0 if nothing was timed.
        bicubic: scores of bicubic interpolation on the same originals, which at scale 1 are those of the images before
            restoration; None without originals.
        not_images: files in the folders of test images that are not images.
        recommended: what to run in each runtime, the fastest first.
    """

    card: ModelCard
    tile: TileSpec
    environment: Environment
    rounds: int
    warm_up: int
    rows: tuple[Row, ...]
    bicubic: HrScores | None = None
    not_images: tuple[Path, ...] = ()
    recommended: tuple[RecommendedEngine, ...] = ()

    def best_row(self) -> Row | None:
        """The row of the first recommendation, or else of the fastest variant that ran as named and passed its test."""
        if self.recommended:
            first = self.recommended[0]
            best = Variant(first.runtime, first.precision, first.float_precision)
            return next((row for row in self.rows if row.variant == best), None)
        as_named = [row for row in self.rows if row.spec and row.spec.ran is row.variant.precision]
        passed = [row for row in as_named if row.latency and (row.self_test is None or row.self_test.passed)]
        return min(passed, key=lambda row: row.latency.total.p50_ms if row.latency else 0.0, default=None)

    def __repr__(self) -> str:
        ran = sum(row.spec is not None for row in self.rows)
        network = f"{self.card.name} x{self.card.scale}, tile {self.tile}"
        return f"<BenchReport {network}: {self._summary()}; {ran} of {len(self.rows)} variants ran>"

    def _repr_html_(self) -> str:
        from sr_edge.bench.html_report import html_report  # renders this class, so it is above this module

        return html_report(self)

    def _summary(self) -> str:
        """The best variant in a few words."""
        best = self.best_row()
        if best is None or best.latency is None:
            return "not timed"
        kind = "recommended" if self.recommended else "fastest"
        return f"{kind} {best.variant.runtime} {best.variant.label}, {best.latency.total.p50_ms:.2f} ms a tile"

    def require_one_ran(self) -> None:
        """Raises RuntimeUnavailable with all reasons if no variant could run."""
        if not any(row.spec for row in self.rows):
            reasons = dict.fromkeys(row.reason for row in self.rows)
            raise RuntimeUnavailable(f"nothing could be measured here: {'; '.join(reasons)}", found=tuple(reasons))

    def require_all_scored(self) -> None:
        """Raises FrameError with the number of test images that failed in any variant, and the first reason."""
        scores = [self.bicubic, *(row.quality.hr for row in self.rows if row.quality)]
        failed = {picture.name: picture.reason for score in scores if score for picture in reversed(score.failed)}
        if not failed or self.bicubic is None:
            return
        total = len(self.bicubic.pictures) + len(self.bicubic.failed)
        name, reason = min(failed.items())
        raise FrameError(
            f"{len(failed)} of {total} test images failed, the first: {name}: {reason}", found=tuple(sorted(failed))
        )


def flat_row(row: Row) -> Mapping[str, str | float | int | None]:
    """A row as named scalars, for CSV: names with units, None for what was not measured."""
    spec, latency, quality, device = row.spec, row.latency, row.quality, row.on_device
    return {
        "runtime": row.variant.runtime,
        "precision": row.variant.label,
        "ran": str(spec.ran) if spec else None,
        "float_precision_ran": str(spec.float_precision_ran) if spec else None,
        "version": spec.version if spec else None,
        "device": spec.device if spec else None,
        "io": str(spec.io) if spec else None,
        "threads": spec.threads if spec else None,
        "load_ms": spec.load_ms if spec else None,
        "first_frame_ms": row.start_up.first_frame_ms if row.start_up else None,
        "pre_p50_ms": latency.pre.p50_ms if latency else None,
        "compute_p50_ms": latency.compute.p50_ms if latency else None,
        "post_p50_ms": latency.post.p50_ms if latency else None,
        "min_ms": latency.total.min_ms if latency else None,
        "p50_ms": latency.total.p50_ms if latency else None,
        "p90_ms": latency.total.p90_ms if latency else None,
        "p99_ms": latency.total.p99_ms if latency else None,
        "mean_ms": latency.total.mean_ms if latency else None,
        "runs": latency.total.runs if latency else None,
        "tiles_per_s": row.tiles_per_s,
        "h2d_p50_ms": device.latency.h2d.p50_ms if device else None,
        "device_compute_p50_ms": device.latency.compute.p50_ms if device else None,
        "d2h_p50_ms": device.latency.d2h.p50_ms if device else None,
        "enqueue_p50_ms": device.latency.enqueue.p50_ms if device else None,
        "device_bytes": device.memory.total_bytes if device else None,
        "peak_added_bytes": row.memory.added_bytes if row.memory else None,
        "artifact_bytes": spec.artifact_bytes if spec else None,
        "psnr_float_db": quality.psnr_float_db if quality else None,
        "psnr_hr_db": quality.hr.psnr_y_db if quality and quality.hr else None,
        "ssim_hr": quality.hr.ssim_y if quality and quality.hr else None,
        "reason": row.reason,
        "remarks": "; ".join([*([spec.note] if spec and spec.note else []), *row.remarks]),
    }

"""Reproducible benchmarks: latency, memory, golden frames and image quality, with their tables and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.bench.environment import Environment, describe_environment, tool_versions
    from sr_edge.bench.golden import GoldenResult, SelfTest, golden_patches
    from sr_edge.bench.operator_times.census import Census, census
    from sr_edge.bench.protocol import OpenOptions, no_progress, open_variants
    from sr_edge.bench.quality import FailedPicture, HrScores, PairFiles, PictureScore, files_without_image, pair_files
    from sr_edge.bench.recommendation import with_recommendation
    from sr_edge.bench.report import bench_bundle, self_test_bundle
    from sr_edge.bench.rows import BenchReport, Quality, Row, flat_row
    from sr_edge.bench.tables import csv_report, grouped, markdown_report, rich_report, write_text
    from sr_edge.runtimes import preferred_runtime
    from sr_edge.runtimes.variants import Variant, choose_precisions, choose_runtimes, variants_of
    from sr_edge.spec import StageProgress

__all__ = [
    "BenchReport",
    "Census",
    "Environment",
    "FailedPicture",
    "GoldenResult",
    "HrScores",
    "OpenOptions",
    "PairFiles",
    "PictureScore",
    "Quality",
    "Row",
    "SelfTest",
    "StageProgress",
    "Variant",
    "bench_bundle",
    "census",
    "choose_precisions",
    "choose_runtimes",
    "csv_report",
    "describe_environment",
    "files_without_image",
    "flat_row",
    "golden_patches",
    "grouped",
    "markdown_report",
    "no_progress",
    "open_variants",
    "pair_files",
    "preferred_runtime",
    "rich_report",
    "self_test_bundle",
    "tool_versions",
    "variants_of",
    "with_recommendation",
    "write_text",
]

_HOMES = {
    "BenchReport": "sr_edge.bench.rows",
    "Census": "sr_edge.bench.operator_times.census",
    "Environment": "sr_edge.bench.environment",
    "FailedPicture": "sr_edge.bench.quality",
    "GoldenResult": "sr_edge.bench.golden",
    "HrScores": "sr_edge.bench.quality",
    "OpenOptions": "sr_edge.bench.protocol",
    "PairFiles": "sr_edge.bench.quality",
    "PictureScore": "sr_edge.bench.quality",
    "Quality": "sr_edge.bench.rows",
    "Row": "sr_edge.bench.rows",
    "SelfTest": "sr_edge.bench.golden",
    "StageProgress": "sr_edge.spec",
    "Variant": "sr_edge.runtimes.variants",
    "bench_bundle": "sr_edge.bench.report",
    "census": "sr_edge.bench.operator_times.census",
    "choose_precisions": "sr_edge.runtimes.variants",
    "choose_runtimes": "sr_edge.runtimes.variants",
    "csv_report": "sr_edge.bench.tables",
    "describe_environment": "sr_edge.bench.environment",
    "flat_row": "sr_edge.bench.rows",
    "golden_patches": "sr_edge.bench.golden",
    "grouped": "sr_edge.bench.tables",
    "markdown_report": "sr_edge.bench.tables",
    "no_progress": "sr_edge.bench.protocol",
    "open_variants": "sr_edge.bench.protocol",
    "files_without_image": "sr_edge.bench.quality",
    "pair_files": "sr_edge.bench.quality",
    "preferred_runtime": "sr_edge.runtimes",
    "rich_report": "sr_edge.bench.tables",
    "self_test_bundle": "sr_edge.bench.report",
    "tool_versions": "sr_edge.bench.environment",
    "variants_of": "sr_edge.runtimes.variants",
    "with_recommendation": "sr_edge.bench.recommendation",
    "write_text": "sr_edge.bench.tables",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)

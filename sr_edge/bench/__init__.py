"""Reproducible benchmarks: latency, memory, golden frames and image quality, with their tables and files."""

from __future__ import annotations

from sr_edge.bench.environment import Environment, describe_environment, tool_versions
from sr_edge.bench.golden import GoldenResult, SelfTest
from sr_edge.bench.protocol import OpenOptions, StageProgress, no_progress, open_variants
from sr_edge.bench.quality import FailedPicture, HrScores, PairFiles, PictureScore, pair_files
from sr_edge.bench.report import bench_bundle, self_test_bundle
from sr_edge.bench.rows import BenchReport, Quality, Row, flat_row
from sr_edge.bench.tables import csv_report, grouped, markdown_report, rich_report, write_text
from sr_edge.runtimes import preferred_runtime
from sr_edge.runtimes.variants import Variant, choose_precisions, choose_runtimes, variants_of

__all__ = [
    "BenchReport",
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
    "choose_precisions",
    "choose_runtimes",
    "csv_report",
    "describe_environment",
    "flat_row",
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
    "write_text",
]

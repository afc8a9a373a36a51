"""Figures of INT8 in the attention's own matmuls, and their section of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from page_cells import row_of
from picture_quality import Quality

from sr_edge.runtimes import Spread


@dataclass(frozen=True)
class Row:
    """One graph; `ratio` of its time to that of the same `layers` with all products in float, None for those.

    `products` says which products of two computed tensors are INT8, `ran` how many of them OpenVINO computes so. The
    quality on a test set is None where the graph gives NaN on one of its pictures.
    """

    layers: str
    products: str
    ran: str
    quality: Mapping[str, Quality | None]
    ratio: Spread | None


@dataclass(frozen=True)
class NetworkRows:
    """One network: with its layers in float and in INT8, each without and with INT8 products."""

    network: str
    float_precision: str
    rows: tuple[Row, ...]
    largest_drop_db: float


def section(networks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Paragraphs for the page, from what JSON gives."""
    sets = list(networks[0]["rows"][0]["quality"])
    headings = ("network", "layers", "products in INT8", "ran", *(f"{key}, dB" for key in sets), "x", "quartiles", "")
    lines = [row_of(headings), "|---|---|---|---|" + "---:|" * (len(sets) + 1) + "---|---|"]
    lines += [row_of(_cells(network, row, sets)) for network in networks for row in network["rows"]]
    yield "\n".join(lines)
    float_precision, allowed = networks[0]["float_precision"], networks[0]["largest_drop_db"]
    yield (
        f"x2, tile 96x96, OpenVINO, float layers in {float_precision}, graphs of a network interleaved. "
        "dB: PSNR of luma minus that of the fp32 graph. x: time as a multiple of the same layers with all products in "
        "float, the median of one ratio for each round. It pays "
        f"where that is below 1 in three rounds of four and at most {allowed} dB are lost."
    )


def _cells(network: Mapping[str, Any], row: Mapping[str, Any], sets: Sequence[str]) -> tuple[str, ...]:
    qualities = [row["quality"][key] for key in sets]
    changes = tuple("NaN" if found is None else f"{found['change_db']:+.3f}" for found in qualities)
    named = (network["network"], row["layers"], row["products"], row["ran"])
    ratio = row["ratio"]
    if ratio is None:
        return (*named, *changes, "1", "", "")
    kept = all(found is not None and found["change_db"] >= -network["largest_drop_db"] for found in qualities)
    verdict = "pays" if kept and ratio["high"] < 1.0 else "does not pay"
    return (*named, *changes, f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}", verdict)

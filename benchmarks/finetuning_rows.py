"""Figures of fine-tuning, and their section of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from page_cells import row_of
from picture_quality import Quality

from sr_edge.runtimes import Spread

WORTH_DB, WORTH_SHARE = 0.1, 0.9


@dataclass(frozen=True)
class Row:
    """One INT8 graph. `ratio` is of its time to that of the same choice without fine-tuning, None for that one.

    `chosen_by` says which layers are INT8: those within the loss budget, by measured times, or all that can be.
    """

    chosen_by: str
    steps: int
    int8_layers: int
    possible_layers: int
    seconds_to_make: float
    quality: Mapping[str, Quality]
    ratio: Spread | None


@dataclass(frozen=True)
class NetworkRows:
    network: str
    float_precision: str
    rows: tuple[Row, ...]


def section(networks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Paragraphs for the page, from what JSON gives."""
    sets = list(networks[0]["rows"][0]["quality"])
    changes = [f"{key}, dB" for key in sets]
    headings = ("network", "INT8 layers", "steps", "layers", "s", *changes, "x", "quartiles", "")
    lines = [row_of(headings), "|---|---|---:|---|---:|" + "---:|" * (len(sets) + 1) + "---|---|"]
    lines += [row_of(cells) for network in networks for cells in _lines(network, sets)]
    yield "\n".join(lines)
    yield (
        f"x2, tile 96x96, OpenVINO, float layers in {networks[0]['float_precision']}, graphs of a network "
        "interleaved. dB: PSNR of luma minus that of the fp32 graph. s: the whole calibration. x: time as a multiple "
        "of the same choice without fine-tuning, the median of one ratio for each round. Worth it: "
        f"{WORTH_DB} dB better on every set, or a tenth faster."
    )


def _lines(network: Mapping[str, Any], sets: Sequence[str]) -> Iterator[tuple[str, ...]]:
    plain: Mapping[str, Any] = {}
    for row in network["rows"]:
        plain = plain if row["steps"] else row
        ratio = row["ratio"]
        times = ("1", "", "") if ratio is None else _times(row, plain, sets)
        yield (
            network["network"],
            row["chosen_by"],
            str(row["steps"]),
            f"{row['int8_layers']} of {row['possible_layers']}",
            f"{row['seconds_to_make']:.0f}",
            *(f"{row['quality'][key]['change_db']:+.3f}" for key in sets),
            *times,
        )


def _times(row: Mapping[str, Any], plain: Mapping[str, Any], sets: Sequence[str]) -> tuple[str, str, str]:
    ratio = row["ratio"]
    better_db = min(row["quality"][key]["change_db"] - plain["quality"][key]["change_db"] for key in sets)
    verdict = "worth it" if better_db >= WORTH_DB or ratio["median"] <= WORTH_SHARE else "not worth it"
    return f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}", verdict

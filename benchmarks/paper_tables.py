"""Parameters and multiply-accumulates of our networks beside the figures that their papers print.

A figure agrees exactly, to the digit that the paper prints (by rounding or by cutting off), or within the share that
is allowed for it; where a paper gives none, ours stands alone. Weights are never allocated and nothing is computed.

    python benchmarks/paper_tables.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from paper_rows import Agreement, PaperRow, Quantity
from rich.console import Console, Group
from rich.table import Table
from torch import nn

from sr_edge.models import build_network
from sr_edge.models.architectures.realnet import REALNET_SIZES, RealNet
from sr_edge.models.architectures.ups import UPS_SIZES
from sr_edge.models.layers.lstea import LargeScale
from sr_edge.models.layers.mlfr import MLFR
from sr_edge.models.layers.stea import STEA
from sr_edge.models.macs import count_layer_macs, count_macs
from sr_edge.models.registry import count_parameters
from sr_edge.spec import TileSpec

Network = TypeVar("Network", bound=nn.Module)

PLANE = torch.Size((1, 64, 64, 64))
DWC_TWICE = "{:.1f} M with the depthwise 5x5 counted twice, which gives the paper's figures"
STEA_ROWS = (  # order, with DWC, parameters and multiply-accumulates of table IV
    (1, False, 10_600, 33e6),
    (1, True, 16_400, 63e6),
    (2, True, 19_100, 71e6),
    (3, True, 21_800, 80e6),
)
MLFR_ROWS = (  # rates, parameters and multiply-accumulates of table V, what is allowed
    ((6,), 50_500, 198e6, Agreement.NONE),
    ((6, 4), 64_100, 251e6, Agreement.NONE),
    ((6, 4, 2), 89_900, 358e6, Agreement.WITHIN_2),
)
REALNET_ROWS = (  # table VIII, at x4
    (LargeScale.NONE, 4e6, 17e9),
    (LargeScale.STEA, 5.8e6, 25e9),
    (LargeScale.STEA_MLFR, 11.5e6, 47e9),
)
PARAMETER_ROWS = (  # network, scale, published parameters, what is allowed
    ("lcoan-m", 2, 15_668_508, Agreement.EXACT),
    ("lcoan-m", 3, 16.41e6, Agreement.LAST_DIGIT),
    ("lcoan-m", 4, 16.26e6, Agreement.LAST_DIGIT),
    ("swinir-m", 2, 11_752_487, Agreement.EXACT),
    ("swinir-light", 2, 910_152, Agreement.EXACT),
    ("swinir-light", 4, 929_628, Agreement.EXACT),
    ("taylor-swinir-m", 2, 11_704_103, Agreement.EXACT),
    ("taylor-swinir-light", 2, 910_152 - 24 * 15**2 * 6 + 24 * 6, Agreement.EXACT),
    ("taylor-swinir-light", 4, 929_628 - 24 * 15**2 * 6 + 24 * 6, Agreement.EXACT),
)
NOTES = {
    "taylor-swinir-m": "the text at hand prints none: SwinIR-M's less its bias tables, plus the temperatures",
    "taylor-swinir-light": "the text at hand prints none: SwinIR-light's less its bias tables, plus the temperatures",
    "ups": "the text at hand prints none",
}
WIDTH = 140
"""Of the printed table, in columns, whatever the terminal: a row is one line."""

TILE = TileSpec(96, 96)


def rows() -> Iterator[PaperRow]:
    yield from stea_rows()
    yield from mlfr_rows()
    yield from labnet_rows()
    yield from realnet_rows()
    yield from network_rows()
    yield from ups_rows()


def unfilled(build: Callable[[], Network]) -> Network:
    """What `build` gives, without memory for its weights."""
    with torch.device("meta"):
        return build()


def stea_rows() -> Iterator[PaperRow]:
    """Published parameters are those of the maps: k, one number, is left out."""
    for order, use_dwc, parameters, macs in STEA_ROWS:
        layer = unfilled(partial(STEA, 64, order, use_dwc=use_dwc))
        name = f"STEA, order {order}, {'with' if use_dwc else 'without'} DWC"
        maps = count_parameters(layer) - layer.k.numel()
        yield PaperRow(name, Quantity.PARAMETERS, maps, parameters, Agreement.LAST_DIGIT, 100)
        true = count_layer_macs(layer, PLANE)
        again = count_layer_macs(layer.dwc[0], PLANE) if layer.dwc else 0
        note = DWC_TWICE.format((true + again) / 1e6) if again else ""
        yield PaperRow(name, Quantity.MACS_64, true, macs, Agreement.LAST_DIGIT, 1e6, true + again, note)


def mlfr_rows() -> Iterator[PaperRow]:
    for rates, parameters, macs, agreement in MLFR_ROWS:
        layer = unfilled(partial(MLFR, 64, rates))
        name = f"MLFR {{{', '.join(map(str, rates))}}}"
        yield PaperRow(name, Quantity.PARAMETERS, count_parameters(layer), parameters, agreement)
        yield PaperRow(name, Quantity.MACS_64, count_layer_macs(layer, PLANE), macs, agreement)


def labnet_rows() -> Iterator[PaperRow]:
    network = unfilled(partial(build_network, "labnet-m", 4))
    yield PaperRow("labnet-m x4", Quantity.MACS_64, count_macs(network, 64, 64), 49e9, Agreement.WITHIN_3)
    yield PaperRow("labnet-m x4", Quantity.PARAMETERS, count_parameters(network))


def realnet_rows() -> Iterator[PaperRow]:
    for large_scale, parameters, macs in REALNET_ROWS:
        config = replace(REALNET_SIZES["m"], scale=4, large_scale=large_scale)
        network = unfilled(partial(RealNet, config))
        name = f"realnet-m x4, {large_scale.value}"
        yield PaperRow(name, Quantity.PARAMETERS, count_parameters(network), parameters, Agreement.WITHIN_5)
        yield PaperRow(name, Quantity.MACS_64, count_macs(network, 64, 64), macs, Agreement.WITHIN_5)


def network_rows() -> Iterator[PaperRow]:
    for name, scale, parameters, agreement in PARAMETER_ROWS:
        network = unfilled(partial(build_network, name, scale))
        step = 10_000 if agreement is Agreement.LAST_DIGIT else 1
        found, note = count_parameters(network), NOTES.get(name, "")
        yield PaperRow(f"{name} x{scale}", Quantity.PARAMETERS, found, parameters, agreement, step, note=note)
        yield work_row(f"{name} x{scale}", network)


def ups_rows() -> Iterator[PaperRow]:
    for size in UPS_SIZES:
        network = unfilled(partial(build_network, f"ups-{size}", 2))
        found = count_parameters(network)
        yield PaperRow(f"ups-{size} x2", Quantity.PARAMETERS, found, note=NOTES["ups"])
        yield work_row(f"ups-{size} x2", network)


def work_row(name: str, network: nn.Module) -> PaperRow:
    return PaperRow(name, Quantity.MACS_96, count_macs(network, TILE.height, TILE.width))


def table(found: list[PaperRow]) -> Group:
    """For the terminal: notes stand below, each once."""
    grid = Table(*PaperRow.HEADINGS[:-1], "note")
    notes = list(dict.fromkeys(row.note for row in found if row.note))
    for row in found:
        grid.add_row(*row.cells()[:-1], str(notes.index(row.note) + 1) if row.note else "")
    return Group(grid, *(f"{number}. {note}" for number, note in enumerate(notes, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    found = list(rows())
    Console(width=WIDTH).print(table(found))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

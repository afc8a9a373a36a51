"""Tables on a terminal: no number and no name is cut, however narrow it is."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console, Group
from rich.table import Table

from sr_edge.cli.tables import fitted, fitted_table

NUMBERS = ("11,704,123", "216.3", "0.9553")
LAYER = "/network/layers.0/residual_group/blocks.0/attn/qkv/MatMul"


def rendered(table: Table, width: int, least_important: Sequence[str] = ()) -> str:
    """The table as it is printed on a terminal of this width."""
    out = io.StringIO()
    Console(file=out, width=width).print(fitted_table(table, width, least_important), crop=False)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_no_number_is_cut(width: int) -> None:
    table = Table("runtime", *(f"parameters x{index}" for index in range(6)), "bundled weights")
    table.add_row("onnxruntime", *NUMBERS, *NUMBERS, "x2, x4")
    lines = rendered(table, width)
    assert [lines.count(number) for number in NUMBERS] == [2, 2, 2]
    assert "onnxruntime" in lines


@pytest.mark.parametrize("width", [80, 100])
def test_long_names_of_layers_fold_so_that_the_table_fits(width: int) -> None:
    table = Table("layer", "relative error", "largest error", "largest value", "reason")
    table.columns[0].overflow = "fold"
    table.add_row(LAYER, *NUMBERS, "kept float to lose at most 0.3 dB")
    lines = rendered(table, width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(number in line for line in lines) for number in NUMBERS)


def test_a_table_that_fits_is_left_as_it_is() -> None:
    narrow, plain = (Table("runtime", "ms"), Table("runtime", "ms"))
    for table in (narrow, plain):
        table.add_row("openvino", "1.25")
    out = io.StringIO()
    Console(file=out, width=80).print(plain)
    assert rendered(narrow, 80) == out.getvalue()


def test_the_least_important_columns_are_left_out_first_and_named() -> None:
    table = Table("runtime", "load ms", "ms p50", "MB peak", "dB")
    table.add_row("onnxruntime", *("1234567.25",) * 4)
    lines = rendered(table, 40, ("MB peak", "load ms", "dB"))
    assert "MB peak, load ms" in " ".join(lines.split())
    assert lines.count("1234567.25") == 2
    lines = rendered(table, 30, ("MB peak", "load ms", "dB"))
    assert lines.count("1234567.25") == 1 and "ms p50" in lines
    assert rendered(table, 200).count("1234567.25") == 4  # the table itself is unchanged


def test_what_is_still_too_wide_turns() -> None:
    table = Table("runtime", "ms p50", "dB float")
    table.add_row("onnxruntime", *("12345.25",) * 2)
    table.add_row("openvino", "", "54321.25")
    lines = [line.split() for line in rendered(table, 24).splitlines() if line.strip()]
    assert lines == [
        ["runtime", "onnxruntime"],
        ["ms", "p50", "12345.25"],
        ["dB", "float", "12345.25"],
        ["runtime", "openvino"],
        ["dB", "float", "54321.25"],
    ]


def test_tables_in_groups_of_groups_fit_too() -> None:
    table = Table("runtime", "ms p50", "dB float")
    table.add_row("onnxruntime", *("12345.25",) * 2)
    out = io.StringIO()
    Console(file=out, width=28).print(fitted(Group("text", Group(table)), 28, ("dB float",)), crop=False)
    assert "12345.25" in out.getvalue() and "…" not in out.getvalue()

"""Tables on terminals of any width: no number and no name is cut.

What does not fit loses first its vertical lines, then columns, the least important first, and at last its form: a table
that is still too wide becomes one block of lines for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Column, Table

FOLDED_COLUMN = 20
"""Least width of a column that breaks long words, such as names of layers."""


def fitted(readable: RenderableType, width: int, least_important: Sequence[str] = ()) -> RenderableType:
    """The same output with all its tables made to fit.

    Args:
        readable: What is printed; tables in it have cells of plain text.
        width: Number of characters in a line of the terminal.
        least_important: Headings of columns that may be left out, in this order.
    """
    from rich.console import Group
    from rich.table import Table

    if isinstance(readable, Group):
        return Group(*(fitted(part, width, least_important) for part in readable.renderables))
    return fitted_table(readable, width, least_important) if isinstance(readable, Table) else readable


def fitted_table(table: Table, width: int, least_important: Sequence[str] = ()) -> RenderableType:
    """The table in a form that fits; a line under it names columns that were left out."""
    from rich.console import Group

    table, left_out = _copied(table), []
    for heading in least_important:
        if _least_width(table) <= width:
            break
        if any(column.header == heading for column in table.columns):
            table = _copied(table, without=heading)
            left_out.append(heading)
    if _least_width(table) > width:
        return _turned(table, width)
    _set_widths(table, width)
    if not left_out:
        return table
    return Group(table, f"columns that do not fit this width: {', '.join(left_out)} (--json contains them)")


def _texts(column: Column) -> list[str]:
    return [str(column.header), *map(str, column.cells)]


def _wanted(table: Table) -> list[int]:
    """The width of each column in which no line wraps."""
    return [max(map(len, _texts(column))) for column in table.columns]


def _needed(table: Table) -> list[int]:
    """The width of each column in which no word is cut."""
    longest = [max(map(len, " ".join(_texts(column)).split()), default=1) for column in table.columns]
    return [
        min(each, FOLDED_COLUMN) if column.overflow == "fold" else each
        for column, each in zip(table.columns, longest, strict=True)
    ]


def _least_width(table: Table) -> int:
    """The width of the table without vertical lines."""
    return sum(_needed(table)) + len(table.columns) - 1


def _copied(table: Table, without: str | None = None) -> Table:
    """A copy, which may lack the columns of one heading."""
    from rich.table import Table

    kept = [column.header != without for column in table.columns]
    copy = Table()
    for column in compress(table.columns, kept):
        copy.add_column(column.header, justify=column.justify, overflow=column.overflow)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        copy.add_row(*compress(cells, kept))
    return copy


def _set_widths(table: Table, width: int) -> None:
    """Sets the widths of the columns so that rich cuts no word.

    Where cells must wrap, the vertical lines are left out, so that fewer do.
    """
    from rich.box import SIMPLE_HEAD

    wanted, needed = _wanted(table), _needed(table)
    if sum(wanted) + 3 * len(wanted) + 1 <= width:
        return
    table.box, table.show_edge, table.padding = SIMPLE_HEAD, False, 0
    spare = width - sum(needed) - (len(wanted) - 1)
    for index in sorted(range(len(wanted)), key=lambda index: wanted[index] - needed[index]):
        widened = min(spare, max(wanted[index] - needed[index], 0))
        table.columns[index].width = needed[index] + widened
        spare -= widened


def _turned(table: Table, width: int) -> RenderableType:
    """A block for each row, with a line for each of its cells: the heading and the value."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    headings = [str(column.header) for column in table.columns]
    indent = min(max(map(len, headings)), width // 2)
    parts: list[RenderableType] = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        block = Table.grid(padding=(0, 2, 0, 0))
        block.add_column(width=indent, overflow="fold")
        block.add_column(overflow="fold")
        for heading, cell in zip(headings, cells, strict=True):
            if str(cell):
                block.add_row(heading, str(cell))
        parts += [block, Text("")]
    return Group(*parts)

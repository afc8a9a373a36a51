"""Duplicated blocks: places with the same lines in a row, apart from indentation, blank lines, comments and imports."""

from __future__ import annotations

import ast
from collections import defaultdict
from itertools import combinations

from scripts.house.checkout import Checkout, Measure, SourceFile

LEAST_LINES = 8
Position = tuple[int, int]
"""The index of a file, and the index of one of its lines of code."""
Pair = tuple[Position, Position]


def measure_duplicates(checkout: Checkout) -> list[Measure]:
    """Each pair of places counts once, however long the block is."""
    code = [_lines_of_code(file) for file in checkout.sources]
    windows: dict[tuple[str, ...], list[Position]] = defaultdict(list)
    for file, lines in enumerate(code):
        for start in range(len(lines) - LEAST_LINES + 1):
            windows[tuple(line for _, line in lines[start : start + LEAST_LINES])].append((file, start))
    pairs = {pair for positions in windows.values() for pair in combinations(positions, 2) if _is_apart(pair)}
    places = []
    for pair in sorted(pairs):
        if _shifted(pair, -1) not in pairs:
            first, second = (checkout.sources[file].place(code[file][line][0]) for file, line in pair)
            places.append(f"{first} and {second}: {_length(pair, pairs)} lines")
    return [Measure(f"duplicated blocks of {LEAST_LINES} or more lines", len(places), "0", tuple(places))]


def _lines_of_code(file: SourceFile) -> list[tuple[int, str]]:
    """The number and the text of each line that is not blank, a comment, an import or a docstring."""
    imports = [node for node in file.nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    skipped = {
        line
        for node in (*imports, *file.docstrings)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = [(number, " ".join(line.split())) for number, line in enumerate(file.lines, 1)]
    return [(number, line) for number, line in numbered if line and line[0] != "#" and number not in skipped]


def _is_apart(pair: Pair) -> bool:
    (first, start), (second, other) = pair
    return first != second or abs(start - other) >= LEAST_LINES


def _shifted(pair: Pair, lines: int) -> Pair:
    (first, start), (second, other) = pair
    return (first, start + lines), (second, other + lines)


def _length(pair: Pair, pairs: set[Pair]) -> int:
    length = LEAST_LINES
    while _shifted(pair, length - LEAST_LINES + 1) in pairs:
        length += 1
    return length

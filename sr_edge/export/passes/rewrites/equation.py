"""The equation of an Einsum for given shapes: one letter for each axis of its operands and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ELLIPSIS_LETTERS = "0123456789"
"""Letters of the axes that an ellipsis stands for, from the last one on; equations have none of them."""


@dataclass(frozen=True)
class Equation:
    """An einsum equation without an ellipsis.

    Attributes:
        operands: the letters of each operand.
        result: the letters of the result.
        sizes: the size of each letter; where an operand has the size 1, it is that of the other operand.
    """

    operands: tuple[str, ...]
    result: str
    sizes: dict[str, int]


def parse_equation(text: str, shapes: Sequence[Sequence[int]]) -> Equation:
    """Reads the attribute of an Einsum.

    Args:
        text: the equation, with or without a result, and with an ellipsis or none.
        shapes: the shape of each operand.

    Raises:
        ValueError: the equation does not fit the shapes, or an operand has a letter twice.
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"it has {len(terms)} terms for {len(shapes)} operands")
    hidden = [_axes_of_ellipsis(term, shape) for term, shape in zip(terms, shapes, strict=True)]
    operands = tuple(_without_ellipsis(term, count) for term, count in zip(terms, hidden, strict=True))
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = "..." * any(hidden) + "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    result = _without_ellipsis(right, max(hidden))
    for term in (*operands, result):
        if len(set(term)) < len(term):
            raise ValueError("a term has an index twice, which takes a diagonal")
    return Equation(operands, result, _sizes(operands, result, shapes))


def _axes_of_ellipsis(term: str, shape: Sequence[int]) -> int:
    count = len(shape) - len(term.replace("...", ""))
    if count < 0 or (count > 0 and "..." not in term) or count > len(_ELLIPSIS_LETTERS):
        raise ValueError(f"its term {term!r} does not fit an operand of {len(shape)} axes")
    return count


def _without_ellipsis(term: str, count: int) -> str:
    return term.replace("...", _ELLIPSIS_LETTERS[:count][::-1])


def _sizes(operands: Sequence[str], result: str, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for letters, shape in zip(operands, shapes, strict=True):
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
            if size not in (1, sizes[letter]):
                raise ValueError(f"its index {letter!r} has the sizes {sizes[letter]} and {size}")
    if not set(result) <= set(sizes):
        raise ValueError("its result has an index that no operand has")
    return sizes

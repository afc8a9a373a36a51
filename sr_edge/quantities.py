"""Checks of numbers that a caller gives: whole numbers and finite numbers, with a minimum."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from sr_edge.errors import UsageError


def whole_number(value: Any, name: str, least: int, remedy: str | None = None) -> int:
    """`value` as an int.

    Args:
        value: What the caller gave: an int or a NumPy integer. A bool or a float is refused.
        name: What the number is, for the message, for example "threads".
        least: The smallest value that is accepted.
        remedy: What to do instead; None derives it from `least`.

    Raises:
        UsageError: It is not a whole number, or less than `least`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        is_number = number is not None
        raise UsageError(
            f"{name} is {value}" if is_number else f"{name} is {value!r}, which is not a whole number",
            found=value,
            wanted=f"{least} or more" if is_number else "a whole number",
            remedy=remedy or f"pass a whole number of {least} or more",
        )
    return number


def finite_number(value: Any, name: str, least: float = -math.inf) -> float:
    """`value` as a float; raises UsageError unless it is a finite number, and not less than `least`.

    Args:
        value: What the caller gave: an int, a float or a NumPy number. A bool or a text is refused.
        name: What the number is, for the message, for example "time_s".
        least: The smallest value that is accepted.
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        wanted = f"a finite number of {least:g} or more" if math.isfinite(least) else "a finite number"
        raise UsageError(f"{name} is {value!r}", found=value, wanted=wanted, remedy=f"pass {wanted}")
    return number

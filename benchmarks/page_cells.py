"""What all sections of the page are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Kept = Mapping[str, Any]  # what run_all.py keeps of one benchmark, as JSON gives it
Body = Callable[[Any], Iterator[str]]


def judged(value: float, wanted: float | None) -> str:
    """Whether `value` is at least `wanted`."""
    if wanted is None:
        return ""
    return "met" if value >= wanted else "**missed**"


def row_of(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"

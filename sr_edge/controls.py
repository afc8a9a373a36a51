"""Values for a network's run-time scalars: the caller's, checked; and those that checks and calibration run at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeVar

from sr_edge.errors import UsageError
from sr_edge.spec import Control

Controls = Mapping[str, float]
"""Values by name; whatever is not named takes its default."""

Picture = TypeVar("Picture")


def control_values(known: Sequence[Control], chosen: Controls | None = None) -> dict[str, float]:
    """One value for each of `known`, in their order: the chosen one, else the default.

    Raises:
        UsageError: a name that is not known, a value that is not a number, or a number out of range.
    """
    chosen = chosen or {}
    names = [control.name for control in known]
    for name in chosen:
        if name not in names:
            remedy = f"choose one of: {', '.join(names)}" if names else "omit it, since the network has no controls"
            raise UsageError(f"the network has no control {name!r}", found=name, wanted=names, remedy=remedy)
    return {control.name: control.checked(chosen.get(control.name, control.default)) for control in known}


def extreme_settings(controls: Sequence[Control]) -> list[dict[str, float]]:
    """Every combination of the controls' least and largest values; none for a network without controls."""
    names = [control.name for control in controls]
    ends = product(*((control.minimum, control.maximum) for control in controls))
    return [dict(zip(names, values, strict=True)) for values in ends] if names else []


def checked_pairs(pictures: Sequence[Picture], controls: Sequence[Control]) -> list[tuple[Picture, dict[str, float]]]:
    """Every picture at the default setting, then again with the extreme settings in turn, each at least once."""
    defaults = control_values(controls)
    pairs = [(picture, defaults) for picture in pictures]
    extremes = extreme_settings(controls)
    if pictures and extremes:
        turns = range(max(len(pictures), len(extremes)))
        pairs += [(pictures[turn % len(pictures)], extremes[turn % len(extremes)]) for turn in turns]
    return pairs


def non_default_setting(controls: Sequence[Control]) -> dict[str, float]:
    """A setting in which no control is at its default and, by turns, they lie below and above it.

    So a control that is ignored, or mistaken for its neighbour, shows in the picture.
    """
    ends = [
        (control.maximum, control.minimum) if index % 2 else (control.minimum, control.maximum)
        for index, control in enumerate(controls)
    ]
    return {
        control.name: (control.default + (first if first != control.default else second)) / 2
        for control, (first, second) in zip(controls, ends, strict=True)
    }

"""Values of a network's run-time controls: validation, and the settings at which checks and calibration run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeVar

from sr_edge.errors import UsageError
from sr_edge.spec import Control

Controls = Mapping[str, float]
"""Values by control name. Controls that are not named take their default."""

Picture = TypeVar("Picture")


def control_values(controls: Sequence[Control], values: Controls | None = None) -> dict[str, float]:
    """Validates `values` and completes them with the defaults, in the order of `controls`.

    Raises:
        UsageError: `values` has an unknown name, or a value that is not a number or out of range.
    """
    values = values or {}
    names = [control.name for control in controls]
    for name in values:
        if name not in names:
            remedy = f"choose one of: {', '.join(names)}" if names else "omit it, since the network has no controls"
            raise UsageError(f"the network has no control {name!r}", found=name, wanted=names, remedy=remedy)
    return {control.name: control.checked(values.get(control.name, control.default)) for control in controls}


def extreme_settings(controls: Sequence[Control]) -> list[dict[str, float]]:
    """Every combination of minimum and maximum of the controls; empty for a network without controls."""
    names = [control.name for control in controls]
    combinations = product(*((control.minimum, control.maximum) for control in controls))
    return [dict(zip(names, values, strict=True)) for values in combinations] if names else []


def checked_pairs(pictures: Sequence[Picture], controls: Sequence[Control]) -> list[tuple[Picture, dict[str, float]]]:
    """Pairs every picture with the defaults, then pictures and extreme settings cyclically, each at least once."""
    defaults = control_values(controls)
    pairs = [(picture, defaults) for picture in pictures]
    extremes = extreme_settings(controls)
    if pictures and extremes:
        indices = range(max(len(pictures), len(extremes)))
        pairs += [(pictures[index % len(pictures)], extremes[index % len(extremes)]) for index in indices]
    return pairs


def non_default_setting(controls: Sequence[Control]) -> dict[str, float]:
    """A setting in which every control differs from its default, alternately below and above it.

    A control that is ignored, or mistaken for its neighbour, then changes the output.
    """
    ends = [
        (control.maximum, control.minimum) if index % 2 else (control.minimum, control.maximum)
        for index, control in enumerate(controls)
    ]
    return {
        control.name: (control.default + (first if first != control.default else second)) / 2
        for control, (first, second) in zip(controls, ends, strict=True)
    }

"""The hyper-parameters of a recognised network as text, for cards and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hyper_parameters_of(descriptor: Any) -> dict[str, str]:
    """What the network was built with, as text, and spandrel's tags, which name its size."""
    values = {name: _as_text(value) for name, value in getattr(descriptor.model, "hyperparameters", {}).items()}
    return {**values, "tags": ", ".join(descriptor.tags)} if descriptor.tags else values


def _as_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_as_text(inner)}" for key, inner in value.items()) + "}"
    return getattr(value, "__name__", None) or str(value)


def first_difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The name and both values of the first hyper-parameter in which the two differ; None where they agree."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            return name, found.get(name, "absent"), wanted.get(name, "absent")
    return None

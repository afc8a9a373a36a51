"""Every public name: choices may be given by name, and `help` says what a person wants to know."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.docs_site import PUBLIC_PACKAGES
from sr_edge.errors import TileError, UnknownNameError
from sr_edge.spec import TileSpec

RESULTS = {
    "Artifact",
    "BenchReport",
    "CalibratedFile",
    "Colour",
    "Device",
    "FileResult",
    "Finding",
    "GraphMetadata",
    "LayerRow",
    "LoadedModel",
    "Manifest",
    "OnnxModel",
    "SelfTest",
    "ServedGraph",
    "SessionSpec",
    "TrainingReport",
    "VideoResult",
}
"""Dataclasses that sr_edge returns and nobody else makes."""


def public_objects() -> dict[str, Any]:
    """Every public function and class once, by its full name."""
    found = {}
    for package in PUBLIC_PACKAGES:
        face = importlib.import_module(package)
        for name in face.__all__:
            value = getattr(face, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


OBJECTS = public_objects()


def choices_in(annotation: object) -> set[type]:
    """The enums, and TileSpec, that a parameter takes."""
    if isinstance(annotation, type):
        return {annotation} if issubclass(annotation, enum.Enum) or annotation is TileSpec else set()
    return {kind for part in typing.get_args(annotation) for kind in choices_in(part)}


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in OBJECTS.items():
        if inspect.isfunction(value):
            yield name, value
        elif not getattr(value, "_is_protocol", False):
            for method_name, method in vars(value).items():
                if inspect.isfunction(method) and not method_name.startswith("_"):
                    yield f"{name}.{method_name}", method


def choices_of_functions() -> list[Any]:
    return [
        pytest.param(function, parameter, id=f"{name}-{parameter}")
        for name, function in functions()
        for parameter, annotation in typing.get_type_hints(function).items()
        if parameter != "return" and choices_in(annotation)
    ]


@pytest.mark.parametrize(("function", "parameter"), choices_of_functions())
def test_a_function_takes_a_choice_by_name_and_refuses_nonsense_first(
    function: Callable[..., Any], parameter: str
) -> None:
    """The other arguments are None, so that only a function that checks its choices first reports the nonsense."""
    hint = typing.get_type_hints(function)[parameter]
    assert "str" in str(hint), f"{parameter}: {hint}"
    arguments: dict[str, Any] = {
        name: None for name, each in inspect.signature(function).parameters.items() if each.default is each.empty
    }
    hints = typing.get_type_hints(function)
    for name in arguments:  # choices that come earlier in the signature have to be right
        kinds: Any = choices_in(hints.get(name))
        arguments |= {name: "96x96" if kind is TileSpec else next(iter(kind)) for kind in kinds}
    is_list = typing.get_origin(hint) is not None and "Sequence" in str(hint)
    with pytest.raises((UnknownNameError, TileError)) as caught:
        function(**arguments | {parameter: ["nonsense"] if is_list else "nonsense"})
    assert caught.value.found == "nonsense"


CHOSEN: dict[str, dict[str, Any]] = {
    "DeployPlan": {"tile": "96x96", "runtimes": ["openvino"], "precisions": ["fp32", "int8"]},
    "GoldenFrame": {"input": "in.png", "output": "out.png", "precision": "int8", "min_psnr_db": 35.0}
    | dict.fromkeys(("input_sha256", "output_sha256"), "0" * 64),
    "Policy": {"dropping": "latest"},
    "RawFormat": {"pixel_format": "nv12", "width": 4, "height": 4, "rate": 30},
    "SessionRequest": {"artifact": Path(__file__), "card": None, "tile": "96x96", "precision": "int8"},
    "Variant": {"runtime": "openvino", "precision": "int8"},
    "VideoFrame": {"planes": (np.zeros((2, 2), np.uint8),), "format": "gray"},
}
"""The arguments that a dataclass needs; choices are given by name."""


def fields_with_choices() -> list[Any]:
    kinds: list[Any] = [each for name, each in OBJECTS.items() if name.rpartition(".")[2] not in RESULTS]
    return [
        pytest.param(value, field.name, id=f"{value.__qualname__}-{field.name}")
        for value in kinds
        if dataclasses.is_dataclass(value)
        for field in dataclasses.fields(value)
        if choices_in(typing.get_type_hints(value)[field.name])
    ]


@pytest.mark.parametrize(("kind", "field"), fields_with_choices())
def test_a_dataclass_takes_a_choice_by_name_and_stores_the_member(kind: Any, field: str) -> None:
    hint = typing.get_type_hints(kind)[field]
    (choices,) = choices_in(hint)
    is_list = "Sequence" in str(hint)
    arguments = CHOSEN.get(kind.__name__, {})
    default = next(iter(choices)) if issubclass(choices, enum.Enum) else None
    given: Any = arguments.get(field, default)
    names = [str(each) for each in given] if is_list else str(given)
    stored = getattr(kind(**arguments | {field: names}), field)
    assert all(isinstance(each, choices) for each in (stored if is_list else [stored]))
    with pytest.raises((UnknownNameError, TileError)) as caught:
        kind(**arguments | {field: ["nonsense"] if is_list else "nonsense"})
    assert caught.value.found == "nonsense"


def test_the_nearest_name_is_suggested() -> None:
    error = UnknownNameError("precision", "INT-8", ["fp32", "int8"])
    assert error.remedy is not None
    assert error.remedy.startswith("did you mean int8?")
    assert UnknownNameError("precision", "nonsense", ["fp32", "int8"]).remedy == "choose one of: fp32, int8"

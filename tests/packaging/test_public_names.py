"""Every public name: choices may be given by name, and `help` says what a person wants to know."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import enum
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sr_edge
from scripts.docs_site import PUBLIC_PACKAGES
from sr_edge import errors
from sr_edge.bundle import Fingerprint
from sr_edge.errors import TileError, UnknownNameError
from sr_edge.spec import TileSpec

RESULTS = {
    "Artifact",
    "BenchReport",
    "CalibratedFile",
    "Census",
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
        kinds: list[Any] = [*choices_in(hints.get(name))]
        if kinds:
            arguments[name] = "96x96" if kinds == [TileSpec] else next(iter(kinds[0]))
    is_list = typing.get_origin(hint) is not None and "Sequence" in str(hint)
    with pytest.raises((UnknownNameError, TileError)) as caught:
        function(**arguments | {parameter: ["nonsense"] if is_list else "nonsense"})
    assert caught.value.found == "nonsense"


CHOSEN: dict[str, dict[str, Any]] = {
    "ChosenEngine": {"runtime": "openvino", "precision": "int8", "float_precision": "bf16", "device": "cpu"},
    "DeployPlan": {"tile": "96x96", "runtimes": ["openvino"], "precisions": ["fp32", "int8"]},
    "GoldenFrame": {"input": "in.png", "output": "out.png", "precision": "int8", "min_psnr_db": 35.0}
    | dict.fromkeys(("input_sha256", "output_sha256"), "0" * 64),
    "TileTime": {"tile": "96x96", "latency_ms": 1.0},
    "PassMeasurement": {"runtime": "openvino", "precision": "int8", "time_ratio": 0.5, "interval": (0.4, 0.6)}
    | {"passes": ("four-axes",), "base": (), "rounds": 9, "cpu": "a CPU", "version": "1.0"},
    "Policy": {"dropping": "latest"},
    "RawFormat": {"pixel_format": "nv12", "width": 4, "height": 4, "rate": 30},
    "RecommendedEngine": {"runtime": "openvino", "precision": "int8", "float_precision": "bf16", "latency_ms": 1.0}
    | {"fingerprint": Fingerprint("cpu", "a CPU", (), "1.0"), "cost_db": 0.0, "max_drop_db": 0.05}
    | {"measured_by": "deploy", "measured_at": "2026-12-01"},
    "SessionRequest": {"artifact": Path(__file__), "card": None, "tile": "96x96", "precision": "int8"}
    | {"io": "nv12", "nv12_colour": "bt709-limited"},
    "Variant": {"runtime": "openvino", "precision": "int8"},
    "VideoFrame": {"planes": (np.zeros((2, 2), np.uint8),), "format": "gray"},
}
"""The arguments that a dataclass needs; choices are given by name."""


OPEN_CHOICES = {("VideoSettings", "codec")}
"""Fields that take other names, too: here those of FFmpeg's encoders, which are tried when a video is written."""


def fields_with_choices() -> list[Any]:
    kinds: dict[str, Any] = {name.rpartition(".")[2]: each for name, each in OBJECTS.items()}
    return [
        pytest.param(value, field.name, id=f"{name}-{field.name}")
        for name, value in kinds.items()
        if dataclasses.is_dataclass(value) and name not in RESULTS
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
    if (kind.__name__, field) in OPEN_CHOICES:
        assert getattr(kind(**arguments | {field: "h264_nvenc"}), field) == "h264_nvenc"
        return
    with pytest.raises((UnknownNameError, TileError)) as caught:
        kind(**arguments | {field: ["nonsense"] if is_list else "nonsense"})
    assert caught.value.found == "nonsense"


def test_the_nearest_name_is_suggested() -> None:
    error = UnknownNameError("precision", "INT-8", ["fp32", "int8"])
    assert error.remedy is not None
    assert error.remedy.startswith("did you mean int8?")
    assert UnknownNameError("precision", "nonsense", ["fp32", "int8"]).remedy == "choose one of: fp32, int8"


def own_docstring(value: Any) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def described(docstring: str) -> set[str]:
    """The names that have an entry in a section of a docstring in Google form."""
    return set(re.findall(r"^    (\w+): \S", docstring, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_a_public_name_is_summarised_in_one_sentence(name: str) -> None:
    summary = own_docstring(OBJECTS[name]).split("\n\n")[0]
    assert summary.endswith("."), summary
    assert len(summary.splitlines()) <= 2


@pytest.mark.parametrize(("name", "function"), [pytest.param(*each, id=each[0]) for each in functions()])
def test_the_arguments_of_a_public_function_are_described(name: str, function: Callable[..., Any]) -> None:
    """One argument may be described in the summary; a method of a protocol is described there."""
    docstring = own_docstring(function)
    protocols = [each for each in OBJECTS.values() if getattr(each, "_is_protocol", False)]
    if not docstring:
        method = name.rpartition(".")[2]
        docstrings = [own_docstring(getattr(each, method)) for each in protocols if hasattr(each, method)]
        assert any(docstrings), f"{name} has no docstring"
        return
    parameters = [each for each in inspect.signature(function).parameters if each != "self"]
    is_top_level = getattr(sr_edge, function.__name__, None) is function
    if len(parameters) >= (1 if is_top_level else 2) and "." not in name.removeprefix(f"{function.__module__}."):
        assert set(parameters) <= described(docstring) or " are those of `" in docstring, name


@pytest.mark.parametrize("name", [name for name, each in OBJECTS.items() if dataclasses.is_dataclass(each)])
def test_the_fields_of_a_public_dataclass_are_described(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(OBJECTS[name]) if not field.name.startswith("_")}
    assert fields <= described(own_docstring(OBJECTS[name]))


def test_help_shows_an_example_for_the_names_to_begin_with() -> None:
    for value in (sr_edge, sr_edge.upscale, sr_edge.open_upscaler, sr_edge.Upscaler, sr_edge.upscale_file):
        assert "    large = " in str(value.__doc__) or "sr_edge.upscale_file(" in str(value.__doc__), value
    assert "sr_edge.camera.stream(" in str(sr_edge.camera.__doc__)


@pytest.mark.parametrize("name", ["sr_edge.errors", "sr_edge.printable", "sr_edge.frames", "sr_edge.spec"])
def test_examples_in_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def documented_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The public functions and methods of a module that have a docstring; others implement a documented protocol."""
    classes = [each for each in tree.body if isinstance(each, ast.ClassDef) and not each.name.startswith("_")]
    bodies: list[list[ast.stmt]] = [tree.body, *(each.body for each in classes)]
    for body in bodies:
        for each in body:
            is_public = isinstance(each, ast.FunctionDef) and (each.name == "__init__" or not each.name.startswith("_"))
            if isinstance(each, ast.FunctionDef) and is_public and ast.get_docstring(each):
                yield each


def raised_by(function: ast.FunctionDef) -> set[str]:
    """The errors of sr_edge that a function raises itself."""
    raised = (each.exc for each in ast.walk(function) if isinstance(each, ast.Raise) and each.exc)
    names = {ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in raised}
    return {name for name in names if isinstance(getattr(errors, name, None), type)}


def test_docstrings_name_the_errors_that_a_function_raises_itself() -> None:
    """By their own name, or as `SrEdgeError` where there are several."""
    missing = []
    for file in sorted(Path(sr_edge.__file__).parent.rglob("*.py")):
        if "cli" in file.relative_to(Path(sr_edge.__file__).parent).parts:
            continue  # whose docstrings are the help of the commands
        for function in documented_functions(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(function) or ""
            missing += [
                f"{file.name}: {function.name} raises {name}"
                for name in raised_by(function)
                if not any(each in text for each in (name, "SrEdgeError"))
            ]
    assert missing == []

"""Converts between frozen dataclasses and the plain values of JSON, with a check of every field when reading."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sr_edge.errors import BundleError, SrEdgeError
from sr_edge.printable import printable_json

T = TypeVar("T")
Plain = Any  # a value from JSON, whose type is unknown until `from_plain` has checked it


def to_plain(value: object) -> Plain:
    """Converts dataclasses and mappings to dicts, tuples to lists, enums to their values and paths to strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def json_text(document: object, redact: Callable[[str], str] = str) -> str:
    """Serializes to JSON; numbers that JSON does not have, such as an infinite PSNR, become null.

    Characters that act on a terminal are written as escapes.

    Args:
        document: A dataclass, or plain values.
        redact: Applied to every text before it is written, for example to hide passwords.
    """
    text = json.dumps(_finite(to_plain(document), redact), indent=2, ensure_ascii=False, allow_nan=False)
    return printable_json(text) + "\n"


def _finite(value: Plain, redact: Callable[[str], str]) -> Plain:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {redact(key): _finite(item, redact) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, redact) for item in value]
    return value


def from_plain(kind: type[T], value: Plain, where: str) -> T:
    """Builds the dataclass `kind` from a dict; unknown keys are ignored.

    Raises:
        BundleError: A field is missing or has another type; the message names it, starting with `where`.
    """
    if not isinstance(value, Mapping):
        raise _mismatch(where, "an object", value)
    hints = get_type_hints(kind)
    arguments = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]  # mypy cannot say "T is a dataclass"
        name = f"{where}.{item.name}"
        if item.name in value:
            arguments[item.name] = _read(hints[item.name], value[item.name], name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise BundleError(
                f"{name} is missing: the file is damaged or was not written by sr-edge",
                wanted=name,
                remedy="deploy again",
            )
    try:
        return kind(**arguments)
    except BundleError:
        raise
    except SrEdgeError as error:
        raise BundleError(
            f"{where} is invalid: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
        ) from error


def _read(kind: Any, value: Plain, where: str) -> Plain:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else _read(options[0], value, where)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where)
    if origin is not None and issubclass(origin, Mapping):
        return _read_mapping(get_args(kind)[1], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value, where)
    if issubclass(kind, Enum):
        return _read_enum(kind, value, where)
    return _read_scalar(kind, value, where)


def _read_tuple(kinds: tuple[Any, ...], value: Plain, where: str) -> tuple[Plain, ...]:
    if not isinstance(value, list):
        raise _mismatch(where, "a list", value)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _mismatch(where, f"{len(kinds)} values", value)
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _read_mapping(kind: Any, value: Plain, where: str) -> dict[str, Plain]:
    if not isinstance(value, Mapping):
        raise _mismatch(where, "an object", value)
    return {key: _read(kind, item, f"{where}.{key}") for key, item in value.items()}


def _read_enum(kind: type[Enum], value: Plain, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise _mismatch(where, "one of " + ", ".join(str(item.value) for item in kind), value) from None


def _read_scalar(kind: type, value: Plain, where: str) -> Plain:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError):  # JSON has integers of any length
            return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _mismatch(where, kind.__name__, value)
    return value


def _mismatch(where: str, wanted: str, value: Plain) -> BundleError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BundleError(
        f"{where} is {shown} instead of {wanted}: the file is damaged",
        found=value,
        wanted=wanted,
        remedy="deploy again, or copy the file again",
    )

"""Checks of the values of every command before it starts: outputs apart from inputs, nothing empty, no NaN."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperArgument, TyperCommand

from sr_edge.bundle import is_bundle_folder
from sr_edge.cli.config_file import with_config
from sr_edge.cli.error_document import current_state
from sr_edge.cli.model_argument import AUTO
from sr_edge.cli.options import shown_name
from sr_edge.cli.unused_options import SEPARATORS, require_effect
from sr_edge.errors import UsageError
from sr_edge.model_sources import SourceKind, source_kind
from sr_edge.printable import scheme_of
from sr_edge.spec import Precision

INPUTS = frozenset(
    ("bundle", "model", "source", "images", "hr", "lr", "data", "val", "weights", "blend", "recipe", "vgg", "fallback")
) | frozenset(("first", "second", "engine", "trust_engine", "config"))
"""Parameters of commands that name files or folders to read."""

OUTPUTS = frozenset(
    ("out", "target", "sink", "csv", "stats_json", "picture", "cache", "repository", "graph")
) | frozenset(("timing_cache", "folder", "save_config"))
"""Parameters of commands that name files or folders to write."""

_NAMES_OR_FILES = frozenset(("model", "first", "second"))
"""Inputs that may also be the name of a model, with which a folder of that name has nothing to do."""

_NO_FILES = ("-", "null")

_FILE_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "a bundle": (".sredge",),
    "an archive": (".zip",),
    "an ONNX file": (".onnx",),
    "a checkpoint": (".pth", ".pt", ".ckpt", ".safetensors"),
    "an engine": (".engine", ".plan", ".trt"),
    "a picture": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    "a video": (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"),
    "a table": (".csv", ".tsv"),
    "JSON": (".json",),
    "TOML": (".toml",),
    "text": (".txt", ".md", ".log"),
}
"""Kinds of files by the suffixes that readers know them by. Any other suffix may be part of a name, as in net.v2."""

_WRITTEN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "deploy.out": ("a bundle", ("a bundle", "an archive")),
    "compile.out": ("an engine", ("an engine",)),
    "train.out": ("a folder", ()),
    "timing_cache": ("a timing cache", ()),
    "repository": ("a folder", ()),
    "folder": ("a folder", ()),
    "picture": ("a picture", ("a picture",)),
    "csv": ("a table", ("a table", "text")),
    "stats_json": ("JSON", ("JSON", "text")),
    "cache": ("JSON", ("JSON",)),
    "save_config": ("TOML", ("TOML", "text")),
}
"""What the commands write, by parameter, and the kinds of names for it. Other outputs are checked by their writers."""


class CheckedCommand(TyperCommand):
    """A command that reads its `--config`, and refuses empty values, which as a path would be the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = with_config(self, ctx, args)
        current_state().arguments = tuple(args)
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.params:
            values = given.get(parameter.name or "")
            if parameter.default != "" and "" in (values if isinstance(values, (list, tuple)) else (values,)):
                raise _empty_value(parameter)
        return super().parse_args(ctx, args)


def _empty_value(parameter: Any) -> UsageError:
    if isinstance(parameter, TyperArgument):
        return UsageError(
            f"the {parameter.name} is empty", found="", wanted=parameter.help, remedy=f"give one of: {parameter.help}"
        )
    return UsageError(
        f"the value of {max(parameter.opts, key=len)} is empty",
        found="",
        wanted="a value",
        remedy="give a value, or leave the option out",
    )


def checking_values(command: Callable[..., None]) -> Callable[..., None]:
    """Wraps a command so that it raises UsageError before it starts where values cannot be meant.

    These are a model in place of the source and the reverse; an output that is one of the inputs or inside of it, or
    inside a bundle; two equal outputs; an output with the suffix of another kind of file; a NaN; a precision for the
    operators that are not quantized without INT8; and every other option that has no effect beside the others
    (`sr_edge.cli.unused_options`).

    Raises:
        TypeError: A path of the command is neither among INPUTS nor among OUTPUTS.
    """
    unknown = set(_path_parameters(command)) - INPUTS - OUTPUTS
    if unknown:
        raise TypeError(f"{command.__name__} has paths that are neither inputs nor outputs: {sorted(unknown)}")

    @functools.wraps(command)
    def checked(**values: Any) -> None:
        _require_model_first(command, values)
        _require_numbers(command, values)
        _require_quantized(values)
        _require_separate_outputs(command, values)
        _require_fitting_names(command, values)
        require_effect(command, values)
        command(**values)

    return checked


def require_suffix(path: Path, *suffixes: str) -> None:
    """Raises UsageError unless the name ends in one of the suffixes, in upper or lower case."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"{path} does not end in {' or '.join(suffixes)}",
            found=path.suffix,
            wanted=suffixes,
            remedy=f"give the output a name that ends in {' or '.join(suffixes)}",
        )


def _path_parameters(command: Callable[..., None]) -> Iterator[str]:
    for name, kind in get_type_hints(command).items():
        if kind is Path or Path in get_args(kind):
            yield name


def _require_model_first(command: Callable[..., None], values: Mapping[str, Any]) -> None:
    model, source = values.get("model"), values.get("source")
    if not isinstance(model, Path) or source is None or not _is_model(Path(source)) or _is_model(model):
        return
    raise UsageError(
        f"{source} is a model, but was given as the source",
        found=str(source),
        wanted="the model first, then the source",
        remedy=f"write `sr-edge {command.__name__} MODEL SOURCE`",
    )


def _is_model(path: Path) -> bool:
    """Whether a path names a bundle or an ONNX file, which may not exist."""
    try:
        return is_bundle_folder(path) if path.is_dir() else source_kind(path) in (SourceKind.BUNDLE, SourceKind.ONNX)
    except OSError:  # a text that is too long to be a name
        return False


def _require_numbers(command: Callable[..., None], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(
                f"the value of {shown_name(command, name)} is NaN",
                found=value,
                wanted="a number",
                remedy="give a number",
            )


def _require_quantized(values: Mapping[str, Any]) -> None:
    if "precision" not in values or values.get("float_precision") in (None, Precision.FP32):
        return
    precision, float_precision = values["precision"], values["float_precision"]
    if precision == AUTO and source_kind(values["model"]) is SourceKind.ONNX:
        return  # which may be in INT8
    precision = precision or Precision.FP32
    if precision == Precision.INT8:
        return
    raise UsageError(
        f"--float-precision {float_precision} is for the operators that INT8 leaves, but the precision is {precision}",
        found=str(precision),
        wanted=str(Precision.INT8),
        remedy=f"pass --precision int8, or --precision {float_precision} alone",
    )


def _require_separate_outputs(command: Callable[..., None], values: Mapping[str, Any]) -> None:
    outputs = {name: path for name in values if name in OUTPUTS and (path := _output(values[name])) is not None}
    inputs = [(name, path) for name in values if name in INPUTS for path in _inputs(name, values[name])]
    seen: dict[Path, str] = {}
    for name, path in outputs.items():
        resolved, shown = path.resolve(), _role(command, name)
        for input_name, given in inputs:
            if _is_same_or_inside(resolved, given):
                where = "is also" if resolved == given.resolve() else "lies inside"
                raise _overlap(path, shown, f"{where} {_role(command, input_name)} {given}, which is read")
        if (bundle := _bundle_around(resolved, itself=command.__name__ != "deploy")) is not None:
            raise _overlap(path, shown, f"lies in the bundle {bundle.name}, whose verified files must not change")
        if resolved in seen:
            raise _overlap(path, shown, f"is also {seen[resolved]}")
        seen[resolved] = shown


def _require_fitting_names(command: Callable[..., None], values: Mapping[str, Any]) -> None:
    """Raises UsageError for an output whose suffix names another kind of file, such as a bundle called x.txt."""
    for name in values:
        path = _output(values[name]) if name in OUTPUTS else None
        written, kinds = _WRITTEN.get(f"{command.__name__}.{name}") or _WRITTEN.get(name) or ("", ())
        if name == "target" and command.__name__ == "upscale" and values["source"].is_dir():
            written = "a folder of pictures"
        if path is None or not written:
            continue
        suffix = path.suffix.lower()
        kind = next((kind for kind, suffixes in _FILE_SUFFIXES.items() if suffix in suffixes), None)
        if kind is not None and kind not in kinds:
            fitting = tuple(suffix for kind in kinds for suffix in _FILE_SUFFIXES[kind])
            raise UsageError(
                f"{_role(command, name)} {path} has the suffix of {kind}, and {written} is written",
                found=path.suffix,
                wanted=fitting or "a name without the suffix of a file",
                remedy=f"end the name in {' or '.join(fitting)}" if fitting else "leave the suffix out",
            )


def _role(command: Callable[..., None], parameter: str) -> str:
    """How a message calls a parameter: "the source" for an argument, its flag for an option."""
    shown = shown_name(command, parameter)
    return shown if shown.startswith("-") else f"the {parameter}"


def _overlap(path: Path, shown: str, problem: str) -> UsageError:
    return UsageError(
        f"{shown} {path} {problem}", found=path, wanted="a path of its own", remedy="choose another output"
    )


def _output(value: Any) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    text = str(value)
    return None if text in _NO_FILES or scheme_of(text) or text.startswith("gst:") else Path(text)


def _inputs(name: str, value: Any) -> Iterator[Path]:
    """The existing files and folders that a value names."""
    if isinstance(value, Path):
        yield from _existing([value])
    for text in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ():
        ends = [index for index, character in enumerate(text) if character in SEPARATORS]
        for path in _existing(Path(text[:end]) for end in (*ends, len(text)) if text[:end]):
            if not (name in _NAMES_OR_FILES and path.is_dir() and not is_bundle_folder(path)):
                yield path


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            if path.exists():
                yield path
        except OSError:  # a text that is too long to be a name
            continue


def _is_same_or_inside(output: Path, given: Path) -> bool:
    resolved = given.resolve()
    return output == resolved or (given.is_dir() and resolved in output.parents)


def _bundle_around(output: Path, itself: bool) -> Path | None:
    """The bundle in which the output would be written; `itself` if it may not be a bundle either."""
    folders = [output, *output.parents] if itself else output.parents
    return next((folder for folder in folders if is_bundle_folder(folder)), None)

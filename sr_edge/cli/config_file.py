"""`--config FILE` and `--save-config FILE`: the arguments and options of one command in a TOML file.

    [deploy]
    model = "checkpoint.pth"
    max-drop-db = 0.1
    exclude = ["head*"]

The table is named after the command, the keys after its arguments and long options. Relative paths are relative to the
folder of the file. The values become words in front of those of the command line, so each is checked as if it had been
typed, and the command line overrides it.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand

from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file, whole_file
from sr_edge.printable import without_secrets

MAX_BYTES = 1 << 20
_GIVEN = "sr_edge.given"
"""Where the context of a command keeps the words of each parameter, for `--save-config`."""
_OWN = frozenset(("config", "save_config", "context"))
_NAMING_FILES = frozenset(("model", "source", "sink", "fallback", "blend"))
"""Parameters of text that may name a file: a model, an address, or FILE=SHARE."""
_PREFIX = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
"""The beginning of an address, a test pattern, or a pipeline, none of which is a file."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="TOML file with options of this command, as --save-config writes it. The command line overrides it.",
        show_default=False,
    ),
]
SaveConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write the arguments and options of this run to a TOML file for --config.",
        show_default=False,
        readable=False,
    ),
]


@dataclass(frozen=True)
class _Key:
    """An argument or option of a command as a key of its configuration.

    Attributes:
        name: the long option without dashes, or the metavar of an argument in lower case.
        parameter: the name of the Python parameter.
        kind: the type of the value in TOML: bool, int, float or str.
        is_list: whether the option is repeatable.
        flags: the option; for a switch also its negation, if there is one. Empty for an argument.
        is_path: whether the value is a path in any case.
    """

    name: str
    parameter: str
    kind: type
    is_list: bool
    flags: tuple[str, ...]
    is_path: bool


def configurable(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--config` and `--save-config` to a command. `CheckedCommand` reads the former before all checks."""

    @functools.wraps(command)
    def configured(context: typer.Context, save_config: Path | None, config: Path | None, **values: Any) -> None:
        with nullcontext() if save_config is None else _saved(save_config, context):
            command(**values)

    options = {"context": typer.Context, "config": ConfigOption, "save_config": SaveConfigOption}
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in options.items()]
    signature = inspect.signature(command, eval_str=True)
    configured.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *own]
    )
    configured.__annotations__ = {**command.__annotations__, **options}
    return configured


def with_config(command: TyperCommand, context: Any, words: Sequence[str]) -> list[str]:
    """The words of a command line together with those of the file that its `--config` names.

    Args:
        command: the command.
        context: its context, which keeps the result for `--save-config`.
        words: the command line after the name of the command.

    Raises:
        UsageError: the file cannot be read, is for another command, or has an unknown key or a wrong type.
    """
    if context.resilient_parsing or not any(each.name == "config" for each in command.params):
        return list(words)
    keys = _keys(command)
    given = _given(command, context, words)
    if (config := given.get("config")) is not None and config != "":
        values = _read(Path(config), keys, command.name or "", _other_commands(context))
        words = _merged({key: value for key, value in values.items() if given.get(key.parameter) in (None, [])}, words)
        given = _given(command, context, words)
    context.meta[_GIVEN] = {key: given[key.parameter] for key in keys if given.get(key.parameter) not in (None, [])}
    return list(words)


def _given(command: TyperCommand, context: Any, words: Sequence[str]) -> dict[str, Any]:
    return dict(command.make_parser(context).parse_args(args=list(words))[0])


def _other_commands(context: Any) -> frozenset[str]:
    return frozenset(context.parent.command.commands) if context.parent is not None else frozenset()


def _keys(command: TyperCommand) -> list[_Key]:
    hints = get_type_hints(command.callback, include_extras=True)
    return [_key(each, hints[each.name]) for each in command.params if each.name in hints and each.name not in _OWN]


def _key(parameter: Any, hint: Any) -> _Key:
    base, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kinds = [kind for kind in get_args(base) or (base,) if kind is not NoneType]
    is_list = get_origin(base) is list
    is_parsed = any(getattr(item, "parser", None) is not None for item in metadata)
    kind = kinds[0] if kinds[0] in (bool, int, float) and not is_parsed else str
    is_path = kinds[0] is Path
    if isinstance(parameter, TyperArgument):
        name, flags = str(parameter.metavar or parameter.name).lower(), ()
        return _Key(name, parameter.name, kind, is_list, flags, is_path)
    flag = max(parameter.opts, key=len)
    negation = [max(parameter.secondary_opts, key=len)] if parameter.secondary_opts else []
    return _Key(flag.lstrip("-"), parameter.name, kind, is_list, (flag, *negation), is_path)


def _read(path: Path, keys: Sequence[_Key], command: str, commands: frozenset[str]) -> dict[_Key, Any]:
    table = _table(path, command, commands)
    by_name = {key.name: key for key in keys}
    for name in table:
        if name not in by_name:
            raise _unknown(f"{path} has the option {name!r}, which `sr-edge {command}` does not have", name, by_name)
    return {by_name[name]: _checked(path, by_name[name], value) for name, value in table.items()}


def _table(path: Path, command: str, commands: frozenset[str]) -> Mapping[str, Any]:
    """The table of the command."""
    document = _document(path)
    if command not in document:
        others = [name for name in document if name in commands]
        if others:
            raise UsageError(
                f"{path} has the options of `sr-edge {others[0]}`, not of `sr-edge {command}`",
                found=others[0],
                wanted=command,
                remedy=f"give it to `sr-edge {others[0]} --config`, or write a table [{command}]",
            )
    for name in document:
        if name != command and name not in commands:
            raise _unknown(f"{path} has {name!r} where a table [{command}] was expected", name, (command,))
    table = document.get(command, {})
    if not isinstance(table, Mapping):
        raise UsageError(
            f"{command!r} in {path} is not a table", found=table, wanted=f"[{command}]", remedy=f"write [{command}]"
        )
    return table


def _document(path: Path) -> Mapping[str, Any]:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    if not path.is_file():
        raise UsageError(
            f"the configuration {path} is not a file", found=path, wanted="a file", remedy="check the path"
        )
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"the configuration {path} is larger than 1 MiB", found=len(data), wanted=MAX_BYTES, remedy="check the path"
        )
    try:
        return tomlkit.parse(data.decode("utf-8")).unwrap()
    except (TOMLKitError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UsageError(
            f"the configuration {path} is not valid TOML: {str(error) or type(error).__name__}",
            found=path,
            wanted="TOML",
            remedy='write lines such as: scale = 2, or: images = "pictures"',
        ) from error


def _unknown(problem: str, name: str, names: Sequence[str] | Mapping[str, Any]) -> UsageError:
    nearest = get_close_matches(name.replace("_", "-"), list(names), n=1, cutoff=0.5)
    remedy = f"did you mean {nearest[0]}?" if nearest else f"choose from: {', '.join(names)}"
    return UsageError(problem, found=name, wanted=tuple(names), remedy=remedy)


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}


def _checked(path: Path, key: _Key, value: Any) -> Any:
    """The value with paths relative to the working directory; raises UsageError for a wrong type."""
    items = value if isinstance(value, list) and key.is_list else [value]
    accepted = (int, float) if key.kind is float else (key.kind,)
    if (key.is_list and not isinstance(value, list)) or any(type(item) not in accepted for item in items):
        wanted = f"a list of {_TYPE_NAMES[key.kind]}" if key.is_list else _TYPE_NAMES[key.kind]
        raise UsageError(
            f"{key.name} in {path} is {value!r}", found=value, wanted=wanted, remedy=f"write {wanted} as its value"
        )
    if key.kind is not str:
        return value
    folder = path.parent
    located = [_located(key, item, folder, lambda text: os.fspath(folder / text)) for item in items]
    return located if key.is_list else located[0]


def _located(key: _Key, text: str, folder: Path, move: Callable[[str], str]) -> str:
    """Applies `move` to the text of a relative path; texts that name no file are left as they are."""
    if key.parameter == "blend":
        file, separator, share = text.rpartition("=")
        return f"{move(file) if file else file}{separator}{share}"
    is_file = key.is_path or (key.parameter in _NAMING_FILES and _names_file(key, text, folder))
    return move(text) if is_file and text and not Path(text).is_absolute() else text


def _names_file(key: _Key, text: str, folder: Path) -> bool:
    """Whether a text that may also be a name or an address is a file: it has a suffix or a folder, or exists.

    A folder that has the name of a model is none.
    """
    if _PREFIX.match(text):
        return False
    path = folder / text
    return bool(path.suffix) or "/" in text or (path.is_file() if key.parameter == "model" else path.exists())


def _merged(values: Mapping[_Key, Any], words: Sequence[str]) -> list[str]:
    """The words of the file's options, those of the command line, and the arguments that only the file has."""
    options = [word for key, value in values.items() if key.flags for word in _words(key, value)]
    arguments = [str(value) for key, value in values.items() if not key.flags]
    return [*options, *words, *(["--"] if arguments and "--" not in words else []), *arguments]


def _words(key: _Key, value: Any) -> Iterator[str]:
    if key.kind is bool:
        yield from key.flags[:1] if value else key.flags[1:]
        return
    for item in value if key.is_list else [value]:
        yield f"{key.flags[0]}={item}"


@contextmanager
def _saved(path: Path, context: Any) -> Iterator[None]:
    """Writes the configuration for a command in the block; if the command refuses its values, restores what was there.

    It is written before the command runs, so that it remains of one that is killed.
    """
    if path.suffix.lower() != ".toml":
        raise UsageError(
            f"{path} does not end in .toml", found=path.suffix, wanted=".toml", remedy="give a name that ends in .toml"
        )
    require_output_file(path)
    previous = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) if path.exists() else None
    _save(path, context)
    try:
        yield
    except UsageError:
        if previous is None:
            path.unlink(missing_ok=True)
        else:
            content, mode = previous
            with whole_file(path, mode) as unfinished:
                unfinished.write_bytes(content)
        raise


def _save(path: Path, context: Any) -> None:
    """Writes the arguments and options that were given, in the order of `--help`."""
    import tomlkit

    folder, command = path.parent, context.command.name
    table = tomlkit.table()
    for key, value in context.meta[_GIVEN].items():
        items = [_plain(key, item, folder) for item in (value if key.is_list else [value])]
        table[key.name] = items if key.is_list else items[0]
    document = tomlkit.document()
    document.add(tomlkit.comment(f"run: sr-edge {command} --config {path.name}"))
    document.add(command, table)
    text = tomlkit.dumps(document)
    with whole_file(path, mode=0o666 if without_secrets(text) == text else 0o600) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _plain(key: _Key, value: Any, folder: Path) -> Any:
    """A word of the command line as a value of TOML, with paths relative to the folder of the file."""
    if key.kind is not str:
        return key.kind(value)
    text = str(value.value if isinstance(value, Enum) else value)
    return _located(key, text, Path(), lambda text: os.path.relpath(text, folder.resolve()))

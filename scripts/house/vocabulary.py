"""Counts the private words: in identifiers, strings, docstrings and comments, pages, and all that a user sees."""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from scripts.house.checkout import Checkout, Measure, SourceFile, dotted_name
from scripts.house.layout import is_command
from scripts.house.words import PRIVATE_WORDS, PrivateWord

IDENTIFIERS, STRINGS, DOCSTRINGS, PAGES = "identifiers", "strings", "docstrings and comments", "README and docs"
PLACES = (IDENTIFIERS, STRINGS, DOCSTRINGS, PAGES)
_NAME = re.compile(r"-{0,2}[A-Za-z_][\w-]*")
_NAME_IN_PROSE = re.compile(r"`(-{0,2}[A-Za-z_][\w.-]*)`")
_EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
_OPTION_MAKERS = ("Option", "Argument")


class Text(NamedTuple):
    """A piece of text to search: one name, or prose."""

    line: int
    text: str
    kind: str
    is_public: bool = False
    is_name: bool = False


def measure_vocabulary(checkout: Checkout) -> list[Measure]:
    """One figure for each word, for each kind of place, and for the public places."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, texts in _texts_by_path(checkout):
        words = [word for word in PRIVATE_WORDS if word.concerns(path)]
        for text in texts:
            for word, line in _occurrences(words, text):
                place = f"{path}:{line}: {word.word} ({text.kind}) -> {word.instead}"
                for key in (word.word, text.kind, *["public"] * text.is_public):
                    places[key].append(place)
    names = {"public": "private words in public places"} | {kind: f"private words in {kind}" for kind in PLACES}
    names |= {word.word: f"private word '{word.word}'" for word in PRIVATE_WORDS}
    return [Measure(name, len(places[key]), "0", tuple(places[key])) for key, name in names.items()]


def _texts_by_path(checkout: Checkout) -> Iterator[tuple[str, Iterable[Text]]]:
    for path, page in checkout.pages:
        yield path, [*_names_in_examples(page), Text(1, _EXAMPLE.sub(_blank, page), PAGES, is_public=True)]
    for file in checkout.sources:
        yield file.path, _texts(file, checkout.package)


def _names_in_examples(page: str) -> Iterator[Text]:
    for example in _EXAMPLE.finditer(page):
        for name in _NAME.finditer(example[1]):
            line = page.count("\n", 0, example.start(1) + name.start()) + 1
            yield Text(line, name[0], PAGES, is_public=True, is_name=True)


def _blank(example: re.Match[str]) -> str:
    return "\n" * example[0].count("\n")


def _occurrences(words: list[PrivateWord], text: Text) -> Iterator[tuple[PrivateWord, int]]:
    """Each word that occurs, with its line."""
    if text.is_name:
        snake_case = _snake_case(text.text)
        yield from ((word, text.line) for word in words if word.in_name(snake_case))
        return
    quoted = list(_NAME_IN_PROSE.finditer(text.text))
    for word in words:
        names = [match.start() for match in quoted if _names_in_quotes(word, match[1])]
        for offset in sorted({*word.in_prose(text.text), *names}):
            yield word, text.line + text.text.count("\n", 0, offset)


def _names_in_quotes(word: PrivateWord, dotted: str) -> bool:
    return not word.in_prose(f"`{dotted}`") and any(word.in_name(_snake_case(name)) for name in dotted.split("."))


@cache
def _snake_case(name: str) -> str:
    """`_found_file_` of FoundFile, found_file and --found-file."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return f"_{'_'.join(words).lower()}_"


def _texts(file: SourceFile, package: str) -> Iterator[Text]:
    public = _public_nodes(file, package)
    yield Text(1, file.module.rpartition(".")[2], IDENTIFIERS, is_name=True)
    yield from _identifiers(file, _public_names(file, package))
    docstrings = set(file.docstrings)
    for node in file.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            kind = DOCSTRINGS if node in docstrings else STRINGS
            yield Text(node.lineno, node.value, kind, node in public, bool(_NAME.fullmatch(node.value)))
    for token in file.tokens:
        if token.type == tokenize.COMMENT:
            yield Text(token.start[0], token.string, DOCSTRINGS)


def _identifiers(file: SourceFile, public: set[tuple[int, int]]) -> Iterator[Text]:
    allowed = _allowed_positions(file)
    for token in file.tokens:
        if token.type == tokenize.NAME and (token.start, token.string) not in allowed:
            yield Text(token.start[0], token.string, IDENTIFIERS, token.start in public, is_name=True)


_PYTHONS_ERRORS = ("FileNotFoundError", "ModuleNotFoundError", "PackageNotFoundError")


def _allowed_positions(file: SourceFile) -> set[tuple[tuple[int, int], str]]:
    """Where a listed word is right: errors' field `found`, `rest` of a partitioned string, `join` of strings."""
    allowed: set[tuple[tuple[int, int], str]] = set()
    errors = file.module.endswith(".errors")
    for node in file.nodes:
        if isinstance(node, ast.keyword) and node.arg == "found":
            allowed.add(((node.lineno, node.col_offset), "found"))
        elif isinstance(node, ast.Name) and node.id in _PYTHONS_ERRORS:
            allowed.add(((node.lineno, node.col_offset), node.id))
        elif isinstance(node, ast.Attribute) and node.attr in ("found", "join"):
            allowed.add(((node.end_lineno or 0, (node.end_col_offset or 0) - len(node.attr)), node.attr))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _partitions_into_rest(node):
            inner = (one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id == "rest")
            allowed |= {((one.lineno, one.col_offset), "rest") for one in inner}
    if errors:
        allowed |= {(token.start, "found") for token in file.tokens if token.string == "found"}
    return allowed


def _partitions_into_rest(function: ast.AST) -> bool:
    """Whether a line such as `before, _, rest = text.partition(":")` is in it."""
    assignments = (node for node in ast.walk(function) if isinstance(node, ast.Assign))
    return any(
        "partition(" in ast.unparse(node.value) and "rest" in ast.unparse(node.targets[0]) for node in assignments
    )


def _public_nodes(file: SourceFile, package: str) -> set[ast.AST]:
    """The strings that a user sees: `__all__`, messages of errors, and help texts of the command line."""
    roots: list[ast.AST] = []
    for node in file.nodes:
        is_all = isinstance(node, ast.Assign) and dotted_name(node.targets[0]) == "__all__"
        is_option = isinstance(node, ast.Call) and dotted_name(node.func).rpartition(".")[2] in _OPTION_MAKERS
        if is_all or is_option or isinstance(node, ast.Raise):
            roots.append(node)
    if file.path.startswith(f"{package}/cli/"):
        roots += [statement for function in file.functions() for statement in function.body[:1] if _is_text(statement)]
    return {inner for root in roots for inner in ast.walk(root)}


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _public_names(file: SourceFile, package: str) -> set[tuple[int, int]]:
    """Where the options of commands and the fields of a bundle's manifest, which are its keys, are declared."""
    names: list[ast.expr | ast.arg] = []
    if file.path.startswith(f"{package}/cli/"):
        names += [
            name for function in file.functions() for name in function.args.args if is_command(file, function, package)
        ]
    if re.match(rf"{package}/(?:bundle/|spec)", file.path):
        names += [node.target for node in file.nodes if isinstance(node, ast.AnnAssign)]
    return {(name.lineno, name.col_offset) for name in names}

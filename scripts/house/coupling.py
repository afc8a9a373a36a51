"""What the tests rely on beside behaviour: the wording of messages, private names, internals, and child processes."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from scripts.house.checkout import Checkout, Measure, SourceFile, dotted_name

PATTERNS = "match= patterns in tests"
MESSAGES = "'in str(...)' in tests"
DOTTED_PATCHES = "tests' patches of dotted names of the package"
PRIVATE_PATCHES = "tests' patches of private names"
PRIVATE_USES = "tests' imports and uses of private names"
PROCESSES = "child processes in tests"
TARGETS = {
    PATTERNS: "<= 40",
    MESSAGES: "0",
    DOTTED_PATCHES: "0",
    PRIVATE_PATCHES: "0",
    PRIVATE_USES: "0",
    PROCESSES: "",
}

_PATCHERS = ("setattr", "delattr", "patch", "object")
_STARTERS = (
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
)


def measure_coupling(checkout: Checkout) -> list[Measure]:
    places = defaultdict(list)
    for file in checkout.tests:
        for measure, line, detail in _uses(file, checkout.package):
            places[measure].append(file.place(line, detail))
    return [Measure(name, len(places[name]), target, tuple(places[name])) for name, target in TARGETS.items()]


def _uses(file: SourceFile, package: str) -> Iterator[tuple[str, int, str]]:
    """(measure, line, detail) of each use in one file."""
    names = _imported_names(file, package)
    for node in file.nodes:
        if isinstance(node, ast.Call):
            yield from _call(node, package, names)
        elif isinstance(node, ast.Compare) and _is_in_message(node):
            yield MESSAGES, node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and _is_of(package, node.module or ""):
            private = [alias.name for alias in node.names if _is_private(f"{node.module}.{alias.name}")]
            yield from ((PRIVATE_USES, node.lineno, f"from {node.module} import {name}") for name in private)
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and _owner(node.value) in names:
            yield PRIVATE_USES, node.lineno, ast.unparse(node)


def _call(node: ast.Call, package: str, names: set[str]) -> Iterator[tuple[str, int, str]]:
    function, line = dotted_name(node.func), node.lineno
    for keyword in node.keywords:
        if keyword.arg == "match":
            yield PATTERNS, keyword.value.lineno, ast.unparse(keyword.value)
    if function in _STARTERS:
        yield PROCESSES, line, function
    if function.rpartition(".")[2] not in _PATCHERS or not node.args:
        return
    target, name = node.args[0], (*node.args[1:2], None)[0]
    if isinstance(target, ast.Constant) and isinstance(target.value, str) and _is_of(package, target.value):
        yield DOTTED_PATCHES, line, target.value
        if _is_private(target.value):
            yield PRIVATE_PATCHES, line, target.value
    elif isinstance(name, ast.Constant) and _owner(target) in names and _is_private(str(name.value)):
        yield PRIVATE_PATCHES, line, f"{ast.unparse(target)}, {name.value!r}"


def _imported_names(file: SourceFile, package: str) -> set[str]:
    """What the file calls the modules, classes and functions that it imports from the package."""
    names: set[str] = set()
    for node in file.nodes:
        if isinstance(node, ast.ImportFrom) and _is_of(package, node.module or ""):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.asname or package for alias in node.names if _is_of(package, alias.name))
    return names


def _owner(node: ast.expr) -> str:
    """The first name of `a.b.c`."""
    return dotted_name(node).partition(".")[0]


def _is_of(package: str, name: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def _is_in_message(node: ast.Compare) -> bool:
    tested = zip(node.ops, node.comparators, strict=True)
    return any(
        isinstance(operator, ast.In | ast.NotIn) and isinstance(value, ast.Call) and dotted_name(value.func) == "str"
        for operator, value in tested
    )

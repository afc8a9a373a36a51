"""Import cycles among the modules of the package, and among the sub-packages of one parent.

An import within a function counts like one at the top, and so does `importlib.import_module` with a literal name. An
import of a name from a package counts as an import of the module of that name, where there is one, else of the package.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from scripts.house.checkout import Checkout, Measure, SourceFile, dotted_name

Graph = dict[str, set[str]]


def measure_imports(checkout: Checkout) -> list[Measure]:
    modules = {file.module for file in checkout.sources}
    at_run_time = import_graph(checkout)
    everything = import_graph(checkout, with_type_checking=True)
    return [
        _cycles("import cycles among modules", cyclic_groups(at_run_time), "0"),
        _cycles("import cycles among sibling packages", _package_cycles(at_run_time, modules), "0"),
        _cycles("import cycles among modules, with TYPE_CHECKING", cyclic_groups(everything)),
        _cycles("import cycles among sibling packages, with TYPE_CHECKING", _package_cycles(everything, modules)),
    ]


def _cycles(name: str, groups: list[list[str]], target: str = "") -> Measure:
    return Measure(name, len(groups), target, tuple(f"{len(group)}: {' '.join(group)}" for group in groups))


def import_graph(checkout: Checkout, with_type_checking: bool = False) -> Graph:
    """The modules and packages of the package that each of them imports."""
    modules = {file.module for file in checkout.sources}
    graph: Graph = {module: set() for module in modules}
    for file in checkout.sources:
        left_out = set() if with_type_checking else _under_type_checking(file)
        for node in file.nodes:
            if node not in left_out:
                graph[file.module].update(_imported(node, file, modules) - {file.module})
    return graph


def _under_type_checking(file: SourceFile) -> set[ast.AST]:
    guarded = (node for node in file.nodes if isinstance(node, ast.If) and _is_type_checking(node.test))
    return {inner for node in guarded for statement in node.body for inner in ast.walk(statement)}


def _is_type_checking(test: ast.expr) -> bool:
    return dotted_name(test).rpartition(".")[2] == "TYPE_CHECKING"


def _imported(node: ast.AST, file: SourceFile, modules: set[str]) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & modules
    if isinstance(node, ast.ImportFrom):
        source = _absolute(node, file)
        members = {f"{source}.{alias.name}" for alias in node.names}
        is_all_modules = members <= modules
        return (members & modules) | (set() if is_all_modules else {source} & modules)
    if isinstance(node, ast.Call) and dotted_name(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        return {str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant)} & modules
    return set()


def _absolute(node: ast.ImportFrom, file: SourceFile) -> str:
    if not node.level:
        return node.module or ""
    parents = file.module.split(".") if file.is_package else file.module.split(".")[:-1]
    base = parents[: len(parents) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _package_cycles(graph: Graph, modules: set[str]) -> list[list[str]]:
    """Cycles among the children of each package, of which at least one is a package itself."""
    packages = {module.rpartition(".")[0] for module in modules} - {""}
    return [
        group
        for parent in sorted(packages)
        for group in cyclic_groups(children_graph(graph, parent))
        if packages & set(group)
    ]


def children_graph(graph: Graph, parent: str) -> Graph:
    """The same between the direct children of `parent`, each with all that it contains."""
    children: Graph = defaultdict(set)
    for module, imported in graph.items():
        source = _child(module, parent)
        targets = {_child(name, parent) for name in imported} - {source, ""}
        if source:
            children[source].update(targets)
    return children


def _child(module: str, parent: str) -> str:
    below = module.removeprefix(f"{parent}.")
    return "" if below == module else f"{parent}.{below.partition('.')[0]}"


def cyclic_groups(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one node, largest first."""
    reached = {node: set(_reachable(graph, node)) for node in graph}
    groups = {frozenset({other for other in reached[node] if node in reached.get(other, ())}) for node in graph}
    return sorted((sorted(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


def _reachable(graph: Graph, start: str) -> Iterator[str]:
    waiting, seen = list(graph[start]), set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting.extend(graph.get(node, ()))

"""The Python files of a checkout, parsed once, and what a measurement of them yields."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
LAYOUT_TOKENS = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Measure:
    """One figure, the value it should have, and the places (`file:line: detail`) that were counted."""

    name: str
    value: float
    target: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceFile:
    """A Python file of a checkout.

    Args:
        path: Relative to the root of the checkout, with forward slashes.
        module: Its dotted name; a package's is that of its folder.
        text: The source code.
    """

    path: str
    module: str
    text: str

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @cached_property
    def docstrings(self) -> list[ast.Constant]:
        """Every string that is a statement of its own: docstrings, and those below an attribute."""
        expressions = (node.value for node in self.nodes if isinstance(node, ast.Expr))
        return [value for value in expressions if isinstance(value, ast.Constant) and isinstance(value.value, str)]

    def functions(self) -> Iterator[FunctionNode]:
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def place(self, line: int, detail: str = "") -> str:
        return f"{self.path}:{line}: {detail}" if detail else f"{self.path}:{line}"


@dataclass(frozen=True)
class Checkout:
    """The files of the package, of its tests, and the pages of documentation (path and text)."""

    package: str
    sources: tuple[SourceFile, ...]
    tests: tuple[SourceFile, ...]
    pages: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, root: Path, package: str = "sr_edge") -> Checkout:
        pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
        return cls(
            package,
            _read_python(root, package),
            _read_python(root, "tests"),
            tuple((str(page.relative_to(root)), page.read_text("utf-8")) for page in pages if page.is_file()),
        )

    @property
    def modules(self) -> tuple[SourceFile, ...]:
        """The package's files other than __init__.py."""
        return tuple(file for file in self.sources if not file.is_package)


def _read_python(root: Path, folder: str) -> tuple[SourceFile, ...]:
    paths = sorted((root / folder).rglob("*.py"))
    return tuple(
        SourceFile(path.relative_to(root).as_posix(), _module(path, root), path.read_text("utf-8")) for path in paths
    )


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` of an expression that is a name with attributes; empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted_name(node.value)):
        return f"{owner}.{node.attr}"
    return ""

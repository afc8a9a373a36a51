"""Sizes: modules per folder, short modules, long functions, long parameter lists, and the share of comments."""

from __future__ import annotations

import tokenize
from collections import Counter
from pathlib import PurePosixPath

from scripts.house.checkout import LAYOUT_TOKENS, Checkout, FunctionNode, Measure, SourceFile

MOST_MODULES, SHORT_LINES, MOST_SHORT_PERCENT = 14, 40, 5
MOST_PARAMETERS, MOST_FUNCTION_LINES = 12, 60
PRAGMAS = ("noqa", "type:", "pragma:", "fmt:", "!")


def measure_layout(checkout: Checkout) -> list[Measure]:
    return [*_folders(checkout), _short_modules(checkout), *_functions(checkout), _comments(checkout)]


def _folders(checkout: Checkout) -> list[Measure]:
    sizes = Counter(str(PurePosixPath(file.path).parent) for file in checkout.modules)
    crowded = tuple(f"{folder}: {size} modules" for folder, size in sizes.most_common() if size > MOST_MODULES)
    return [
        Measure("modules", len(checkout.modules)),
        Measure("modules in the largest folder", max(sizes.values(), default=0), f"<= {MOST_MODULES}"),
        Measure(f"folders with more than {MOST_MODULES} modules", len(crowded), "0", crowded),
        *(Measure(f"modules in {folder}", size, f"<= {MOST_MODULES}") for folder, size in sorted(sizes.items())),
    ]


def _short_modules(checkout: Checkout) -> Measure:
    short = [file.place(len(file.lines)) for file in checkout.modules if len(file.lines) < SHORT_LINES]
    percent = 100 * len(short) / max(len(checkout.modules), 1)
    return Measure(
        f"modules under {SHORT_LINES} lines (%)", round(percent, 2), f"< {MOST_SHORT_PERCENT}", tuple(sorted(short))
    )


def _functions(checkout: Checkout) -> list[Measure]:
    wide, long = [], []
    for file in checkout.sources:
        for function in file.functions():
            parameters, lines = _parameter_count(function), (function.end_lineno or 0) - function.lineno + 1
            if parameters > MOST_PARAMETERS and not is_command(file, function, checkout.package):
                wide.append(file.place(function.lineno, f"{function.name} has {parameters} parameters"))
            if lines > MOST_FUNCTION_LINES:
                long.append(file.place(function.lineno, f"{function.name} has {lines} lines"))
    return [
        Measure(f"functions with more than {MOST_PARAMETERS} parameters (not commands)", len(wide), "0", tuple(wide)),
        Measure(f"functions over {MOST_FUNCTION_LINES} lines", len(long), "", tuple(long)),
    ]


def _parameter_count(function: FunctionNode) -> int:
    listed = function.args
    names = [one.arg for one in (*listed.posonlyargs, *listed.args, *listed.kwonlyargs)]
    names += [one.arg for one in (listed.vararg, listed.kwarg) if one]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_command(file: SourceFile, function: FunctionNode, package: str) -> bool:
    """Whether it is a command of the CLI: each is a public function of a module of the same name, or begins with it."""
    module = file.module.rpartition(".")[2]
    return file.path.startswith(f"{package}/cli/") and function.name.startswith(module)


def _comments(checkout: Checkout) -> Measure:
    comments, code = 0, 0
    for file in checkout.sources:
        documented = {line for node in file.docstrings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        written: set[int] = set()
        for token in file.tokens:
            if token.type == tokenize.COMMENT:
                is_alone = file.lines[token.start[0] - 1].lstrip().startswith("#")
                comments += is_alone and not token.string.lstrip("# ").startswith(PRAGMAS)
            elif token.type not in LAYOUT_TOKENS:
                written.update(range(token.start[0], token.end[0] + 1))
        code += len(written - documented)
    return Measure("comment lines per 100 lines of code", round(100 * comments / max(code, 1), 2))

"""Draws the layers of sr_edge from its imports, and writes them into docs/architecture.md: `python FILE`.

A package stands above everything that it imports, directly or through others. An arrow is left out where a longer path
says the same. Imports within functions count; imports for type checking alone do not.
"""

from __future__ import annotations

import re
import sys
from graphlib import CycleError
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.house.checkout import Checkout
from scripts.house.imports import Graph, children_graph, import_graph

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sr_edge"
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
MARKERS = ("<!-- imports: written by scripts/draw_architecture.py -->\n", "<!-- end of imports -->\n")
NOT_DRAWN = {"__main__"}

Levels = dict[str, int]


def main() -> None:
    graph = layers_of(Checkout.read(ROOT))
    draw(graph, PICTURE)
    PAGE.write_text(with_list(PAGE.read_text("utf-8"), graph), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)} and the list in {PAGE.relative_to(ROOT)}")


def layers_of(checkout: Checkout) -> Graph:
    """What each direct child of the package imports of the others, by their names without the package's."""
    graph = children_graph(import_graph(checkout), PACKAGE)
    names = {node: node.removeprefix(f"{PACKAGE}.") for node in graph}
    return {
        names[node]: {names[other] for other in imported if other in names and names[other] not in NOT_DRAWN}
        for node, imported in sorted(graph.items())
        if names[node] not in NOT_DRAWN
    }


def levels_of(graph: Graph) -> Levels:
    """0 for what imports nothing, else one more than the highest of what is imported.

    Raises:
        CycleError: The imports form a cycle; its second argument has the names.
    """
    levels: Levels = {}
    while len(levels) < len(graph):
        ready = {node for node in graph if node not in levels and graph[node] <= levels.keys()}
        if not ready:
            raise CycleError("the imports form a cycle", sorted(graph.keys() - levels.keys()))
        levels.update({node: 1 + max((levels[other] for other in graph[node]), default=-1) for node in ready})
    return levels


def reduced(graph: Graph) -> Graph:
    """The graph without the imports that a path over another package implies."""
    reached: Graph = {}
    for node in sorted(graph, key=levels_of(graph).__getitem__):
        reached[node] = graph[node].union(*(reached[other] for other in graph[node]))
    return {node: {one for one in imported if not any(one in reached[other] for other in imported)}
            for node, imported in graph.items()}  # fmt: skip


def with_list(page: str, graph: Graph) -> str:
    """The page with the list of imports between its markers."""
    levels = levels_of(graph)
    lines = [
        f"- `{node}` imports {', '.join(f'`{other}`' for other in sorted(graph[node])) or 'nothing of sr_edge'}\n"
        for node in sorted(graph, key=lambda node: (-levels[node], node))
    ]
    first, last = MARKERS
    block = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    return block.sub(lambda _: first + "\n" + "".join(lines) + "\n" + last, page)


def draw(graph: Graph, picture: Path) -> None:
    """Writes the layers as SVG: one row a level, packages in bold with their sub-packages below the name."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    levels, arrows = levels_of(graph), reduced(graph)
    rows: dict[int, list[str]] = {}
    for node in sorted(graph):
        rows.setdefault(levels[node], []).append(node)
    widest = max(map(len, rows.values()))
    places = {
        node: ((position + 0.5) * widest / len(row), float(level))
        for level, row in rows.items()
        for position, node in enumerate(row)
    }
    figure = Figure(figsize=(2.3 * widest, 1.15 * len(rows)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, widest), ylim=(-0.6, len(rows) - 0.4))
    axes.axis("off")
    for node, imported in arrows.items():
        for other in imported:
            axes.annotate(
                "", places[other], places[node],
                arrowprops={"arrowstyle": "-|>", "color": "#8a99ad", "shrinkA": 16, "shrinkB": 16},
            )  # fmt: skip
    for node, place in places.items():
        parts = sub_packages(node)
        box = {"boxstyle": "round,pad=0.5", "facecolor": "#e8f0fa" if parts else "#f6f6f6", "edgecolor": "#3b5b85"}
        text = f"{node}\n{', '.join(parts)}" if parts else node
        axes.text(*place, text, ha="center", va="center", fontsize=9, wrap=True, bbox=box)
    with rc_context({"svg.hashsalt": PACKAGE, "svg.fonttype": "none"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})


def sub_packages(name: str) -> list[str]:
    folder = ROOT / PACKAGE / name
    return sorted(file.parent.name for file in folder.glob("*/__init__.py"))


if __name__ == "__main__":
    main()

"""Makes the lists of names that tests/runtimes/tensorrt/test_api.py holds our code to.

FULL is a folder of one JSON file a TensorRT version: {class name: its attributes}, the module's own names under "_".
The list of TensorRT-RTX is read from the installed package. What is kept are the classes that
sr_edge/runtimes/tensorrt/api.py declares, with all their attributes.

Usage: python scripts/reduce_tensorrt_api.py FULL
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SURFACE = ROOT / "sr_edge" / "runtimes" / "tensorrt_api.py"
TARGET = ROOT / "tests" / "runtimes" / "tensorrt_api"
MODULE = "_"

Names = dict[str, list[str]]


def declared_classes(source: str) -> set[str]:
    """TensorRT's names of the classes that `source` declares as TrtX and RtxX."""
    names = {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return {name[3:] for name in names if name.startswith(("Trt", "Rtx"))} - {"Module"}


def names_of_rtx() -> tuple[str, Names]:
    """Version and lists of the installed TensorRT-RTX."""
    trt = importlib.import_module("tensorrt_rtx")
    own = [name for name in dir(trt) if not name.startswith("_")]
    classes = {name: getattr(trt, name) for name in own if isinstance(getattr(trt, name), type)}
    lists = {name: [item for item in dir(kind) if not item.startswith("_")] for name, kind in classes.items()}
    return f"rtx-{trt.__version__}", {MODULE: [name for name in own if name in classes], **lists}


def reduced(full: Names) -> Names:
    kept = declared_classes(SURFACE.read_text(encoding="utf-8")) | {MODULE}
    return {name: sorted(full[name]) for name in sorted(kept) if name in full}


def main() -> None:
    lists = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path(sys.argv[1]).glob("*.json"))}
    version, rtx = names_of_rtx()
    TARGET.mkdir(exist_ok=True)
    for name, full in {**lists, version: rtx}.items():
        text = json.dumps(reduced(full), separators=(",", ":"), sort_keys=True).replace('],"', '],\n"')
        (TARGET / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
        print(f"{name}: {len(reduced(full))} classes")


if __name__ == "__main__":
    main()

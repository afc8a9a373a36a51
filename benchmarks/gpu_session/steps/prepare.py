"""Makes the bundles and graphs that a session measures: before it, with `make bench-gpu-prepare`, or as a step of it.

What is there already is kept. As a step it goes on until its time is up.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpu_session.material import BUNDLE_TILE, Item, Material, items
from gpu_session.reporting import context, publish
from sr_edge.errors import RuntimeUnavailable, SrEdgeError

_UNFINISHED = ".unfinished-"


def prepare(material: Material, wanted: Sequence[Item]) -> list[str]:
    """Makes what is missing, in order; tells after each item what is there, and returns what could not be made."""
    problems: list[str] = []
    for leftover in material.folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for item in wanted:
        if not is_there(material, item):
            print(f"making the {item} ...", flush=True)
            try:
                make(material, item)
            except ImportError as error:
                problems.append(f"this interpreter lacks what makes the {item}: {error}")
            except SrEdgeError as error:
                problems.append(f"the {item} cannot be made: {error}")
        publish({"there": [str(item) for item in wanted if is_there(material, item)], "problems": problems})
    return problems


def is_there(material: Material, item: Item) -> bool:
    if item.is_bundle:
        return material.bundle(item.network).is_dir()
    return all(file.is_file() for file in material.compared(item.network).files)


def make(material: Material, item: Item) -> None:
    """Raises ImportError without torch and the other packages that export a network."""
    if item.is_bundle:
        from gpu_session.bundles import write_slim_bundle

        name, _, scale = item.network.rpartition("-x")
        write_slim_bundle(name, int(scale), BUNDLE_TILE, material.bundle(item.network))
        return
    from gpu_graphs import write_graphs

    material.graphs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=material.folder) as folder:
        finished = material.compared(item.network)
        unfinished = replace(finished, folder=Path(folder))
        write_graphs(unfinished)
        for made, kept in zip(unfinished.files, finished.files, strict=True):
            made.replace(kept)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where; the default is what the session says")
    parser.add_argument("--only", nargs="+", default=(), metavar="NETWORK", help="these alone")
    chosen = parser.parse_args(arguments)
    material = Material(chosen.into or Path(context().material))
    wanted = [item for item in items() if not chosen.only or item.network in chosen.only]
    problems = prepare(material, wanted)
    if problems:
        raise RuntimeUnavailable("; ".join(dict.fromkeys(problems)))

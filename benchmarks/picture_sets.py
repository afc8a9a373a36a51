"""Where the test pictures are, for all benchmarks that measure decibels on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

SETS = ("set5", "set14")


def test_sets(given: Sequence[Path]) -> list[Path]:
    """Folders of originals: those given, else those in the folder that SR_EDGE_DATA names; ends the program without."""
    if given:
        return list(given)
    data = os.environ.get("SR_EDGE_DATA")
    if not data:
        sys.exit(
            "no test pictures: pass --hr FOLDER, or set SR_EDGE_DATA to a folder with test/set5/hr and test/set14/hr"
        )
    return [Path(data) / "test" / name / "hr" for name in SETS]


def set_name(folder: Path) -> str:
    """The folder's name; of `set5/hr` it is set5."""
    return folder.parent.name if folder.name == "hr" else folder.name

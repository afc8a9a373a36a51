"""Pictures and a recipe small enough to learn from within a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_edge.frames import Picture
from sr_edge.image_files import write_picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three smooth pictures, one of them too small."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, side in enumerate((64, 72, 20)):
        y, x = np.mgrid[:side, :side]
        waves = [127 + 100 * np.sin((x * (colour + 1) + y * index) / 9) for colour in range(3)]
        write_picture(folder / f"{index}.png", Picture(np.stack(waves, -1).astype(np.uint8)))
    return folder

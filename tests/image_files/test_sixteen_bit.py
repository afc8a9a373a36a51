"""Without OpenCV, which is optional, reading a 16-bit picture raises an error that names the package to install."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sr_edge.errors import FrameError
from sr_edge.image_files.sixteen_bit import png_from_samples, samples_from_file_bytes
from sr_edge.installation import how_to_install
from tests.expected_errors import raises


def test_reading_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    file_bytes = png_from_samples(np.zeros((2, 2, 3), np.uint16))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with raises(FrameError, wanted="OpenCV", remedy=f"run: {how_to_install('sixteen-bit')}"):
        samples_from_file_bytes(file_bytes)

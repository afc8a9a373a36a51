"""Windows by one gather are Swin's windows by roll and partition."""

from __future__ import annotations

import pytest
import torch

from sr_edge.export.twins.windows import Windows, window_runs
from sr_edge.models.architectures.swinir import partition


@pytest.mark.parametrize(("window", "shift"), [(8, 0), (8, 4), (7, 3), (5, 0), (6, 3)])
def test_windows_are_swins_and_come_back(window: int, shift: int) -> None:
    height, width = 2 * window, 3 * window
    plane = torch.arange(2.0 * height * width).reshape(1, 2, height, width)
    windows = Windows(height, width, window, shift)
    rolled = torch.roll(plane.permute(0, 2, 3, 1), (-shift, -shift), (1, 2))
    assert torch.equal(windows.cut(plane), partition(rolled, window))
    assert torch.equal(windows.join(windows.cut(plane)), plane)


def test_runs_of_one_shifted_window() -> None:
    """16x16 in windows of 8, shifted by 4: the first window starts at row 4, run 1, of four runs a row."""
    assert window_runs(16, 16, 8, 4)[:4].tolist() == [17, 18, 21, 22]

"""The interface of all degradations."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sr_edge.frames import Uint8Frame


class Degradation(Protocol):
    """Makes low-resolution images, uint8 RGB, of original ones whose height and width are multiples of the scale."""

    @property
    def name(self) -> str:
        """The name by which a recipe selects it."""
        ...

    @property
    def is_fixed(self) -> bool:
        """Whether it draws no random numbers, so that an image has only one low-resolution version."""
        ...

    @property
    def halo_px(self) -> int:
        """Low-resolution pixels around a crop on which its own pixels depend."""
        ...

    def degrade(self, hr: Uint8Frame, scale: int, random: np.random.Generator) -> Uint8Frame:
        """A random low-resolution version for training.

        Args:
            hr: the original image.
            scale: the scale of the network.
            random: source of the random numbers.

        Returns:
            (height / scale, width / scale, 3), or 6 channels for two versions of the same image.
        """
        ...

    def test_pictures(self, hr: Uint8Frame, scale: int, index: int) -> dict[str, Uint8Frame]:
        """The low-resolution versions for validation by their labels, which are always the same for one `index`.

        Args:
            hr: the original image.
            scale: the scale of the network.
            index: number of the image in its folder.
        """
        ...

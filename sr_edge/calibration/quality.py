"""What INT8 costs, on patches that calibration has not seen, compared with the float network's own output.

The noise that INT8 adds stands for decibels: a network that restores a picture with mean squared error F and gets
independent noise Q has F + Q, which is `10 log10(1 + Q/F)` decibels less. F is that of the best networks known, so that
all others lose less than the number says. Noise is not all that can go wrong: detail that the worst patch loses (SSIM
to the float picture) and a tint (a channel's mean that moves) count as decibels, too, and the largest of the three is
the cost.

Originals, where the held-out patches have them, decide nothing: a network trained with adversarial losses is further
from them than bicubic interpolation is, and noise may bring it nearer. The PSNR of luma against them is shown, as
papers measure it: pooled over each picture, then the mean over pictures, a border of `scale` pixels left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.patch import Batch, HeldOut
from sr_edge.calibration.switched import FakeQuantGraph
from sr_edge.controls import Controls, checked_pairs
from sr_edge.errors import CalibrationError
from sr_edge.metrics import cost_of_noise_db, fidelity
from sr_edge.spec import Control

BEST_KNOWN_DB = {2: 38.5, 3: 35.0, 4: 33.0}
"""PSNR of luma on Set5 that no published network exceeds by much, by scale."""

OTHER_SCALES_DB = 40.0
"""Restoration at the same size, and scales that papers do not report."""

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0

SSIM_PER_DB = 0.2
"""A loss of 0.01 in SSIM counts as 0.05 dB. White noise of 0.05 dB alone loses less than that."""

COLOR_SHIFT_PER_DB = 10.0 / 255.0
"""A channel's mean that moves by half a level of 8 bits counts as 0.05 dB: a flat area shows it as a tint."""

Plane = npt.NDArray[np.float64]


def best_known_db(scale: int) -> float:
    """The PSNR that a network without originals is taken to have."""
    return BEST_KNOWN_DB.get(scale, OTHER_SCALES_DB)


class QualityEvaluator:
    """Runs the held-out patches in float once, then with any set of layers in INT8."""

    def __init__(
        self,
        graph: FakeQuantGraph,
        held_out: Sequence[HeldOut],
        controls: Sequence[Control] = (),
        input_range: float = 1.0,
    ) -> None:
        if not held_out:
            raise CalibrationError(
                "there are no held-out patches to judge INT8 by", found=0, wanted=1, remedy="pass more pictures"
            )
        with_truth = [held.original is not None for held in held_out]
        if any(with_truth) and not all(with_truth):
            raise CalibrationError(
                f"only {sum(with_truth)} of {len(held_out)} held-out patches have originals",
                found=sum(with_truth),
                wanted=(0, len(held_out)),
                remedy="pass originals for all of them or for none",
            )
        self._graph = graph
        self._input_range = np.float32(input_range)
        self._has_truth = all(with_truth)
        self._runs: list[tuple[HeldOut, Controls]] = [*checked_pairs(held_out, controls)]
        self._at_defaults = self._runs[: len(held_out)]
        self._floats = [self._run(held, setting, ()) for held, setting in self._runs]
        self._drops_db: dict[frozenset[str], float] = {}
        first = held_out[0]
        self.scale = self._floats[0].shape[-1] // first.patch.shape[-1]
        self._require_fitting_originals()

    @property
    def assumed_db(self) -> float:
        """The PSNR that the network is taken to have."""
        return best_known_db(self.scale)

    @property
    def metric(self) -> str:
        """What the decibels are, in words."""
        count = len({id(held) for held, _ in self._runs})
        return (
            f"noise, lost detail or tint, whichever counts most, against the float output on {count} held-out patches, "
            f"for a picture that the float network restores with {self.assumed_db:g} dB"
        )

    def noise_power(self, int8: Collection[str], patches: int | None = None) -> float:
        """Mean squared difference of luma from the float output, white squared; on the first `patches` only."""
        runs = list(zip(self._runs, self._floats, strict=True))[:patches]
        return _mean_power([(self._run(held, setting, int8), wanted) for (held, setting), wanted in runs])

    def db_of_noise(self, noise_power: float) -> float:
        """What noise of that power costs a picture that the float network restores as assumed."""
        return cost_of_noise_db(noise_power, self.assumed_db)

    def drop_db(self, int8: Collection[str]) -> float:
        """What these layers cost together; asked again, it remembers."""
        key = frozenset(int8)
        if key not in self._drops_db:
            self._drops_db[key] = self._drop_db([self._run(held, setting, key) for held, setting in self._runs])
        return self._drops_db[key]

    def drop_db_in(self, run: Callable[[Batch, Controls], Batch]) -> float:
        """What it costs to run the float network in another way: `run` gives its output for a patch and controls."""
        return self._drop_db(
            [run(held.patch * self._input_range, setting) / self._input_range for held, setting in self._runs]
        )

    def drop_on_originals_db(self, int8: Collection[str]) -> float | None:
        """What these layers cost in PSNR of luma against the originals, which decides nothing; None without any."""
        if not self._has_truth:
            return None
        outputs = [self._run(held, setting, int8) for held, setting in self._at_defaults]
        return self._psnr_db(self._floats[: len(outputs)]) - self._psnr_db(outputs)

    def _drop_db(self, outputs: Sequence[Batch]) -> float:
        return cost_of_pictures_db(outputs, self._floats, self.assumed_db)

    def _run(self, held: HeldOut, setting: Controls, int8: Collection[str]) -> Batch:
        picture: Batch = self._graph.run(held.patch * self._input_range, int8, setting) / self._input_range
        return picture

    def _psnr_db(self, pictures: Sequence[Batch]) -> float:
        errors: dict[str, list[float]] = {}
        for (held, _), picture in zip(self._at_defaults, pictures, strict=True):
            assert held.original is not None  # for mypy: __init__ has made sure
            inner = np.s_[self.scale : -self.scale, self.scale : -self.scale]
            difference = (luma(picture) - luma(held.original))[inner]
            errors.setdefault(held.picture, []).append(float(np.mean(np.square(difference))))
        return float(np.mean([-10.0 * math.log10(max(float(np.mean(found)), 1e-12)) for found in errors.values()]))

    def _require_fitting_originals(self) -> None:
        for (held, _), picture in zip(self._runs, self._floats, strict=True):
            if held.original is not None and held.original.shape[2:] != picture.shape[2:]:
                original_px, output_px = held.original.shape[2:], picture.shape[2:]
                raise CalibrationError(
                    f"the original of a held-out patch is {_by(original_px)} pixels, but the output of the network is "
                    f"{_by(output_px)}",
                    found=original_px,
                    wanted=output_px,
                    remedy=f"pass originals {self.scale} times the size of the patches",
                )


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def cost_of_pictures_db(outputs: Sequence[Batch], references: Sequence[Batch], float_db: float) -> float:
    """What these pictures cost against those of the float network, all float NCHW in [0, 1].

    The largest of three: their noise in luma, the detail that the worst of them loses, the tint of the worst of them.
    """
    pairs = list(zip(outputs, references, strict=True))
    kept = [fidelity(picture, exact) for picture, exact in pairs]
    if not all(math.isfinite(each.color_shift) for each in kept):
        return math.inf
    detail_db = (1.0 - min(each.ssim for each in kept)) / SSIM_PER_DB
    tint_db = max(each.color_shift for each in kept) / COLOR_SHIFT_PER_DB
    return max(cost_of_noise_db(_mean_power(pairs), float_db), detail_db, tint_db)


def _mean_power(pairs: Sequence[tuple[Batch, Batch]]) -> float:
    """Mean squared difference of luma."""
    return float(np.mean([np.mean(np.square(luma(output) - luma(reference))) for output, reference in pairs]))


def luma(batch_nchw: Batch) -> Plane:
    """(height, width) in [0, 1] of one RGB or gray picture, clipped as a picture file would be."""
    channels = np.clip(batch_nchw[0].astype(np.float64), 0.0, 1.0)
    return np.tensordot(_LUMA, channels, axes=1) if len(channels) == 3 else np.asarray(channels[0])

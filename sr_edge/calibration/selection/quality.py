"""The loss by INT8, on patches that calibration has not seen, relative to the output of the float network.

The noise that INT8 adds is converted to decibels: a network that restores an image with mean squared error F and gets
independent noise of power Q has the error F + Q, which is a loss of `10 log10(1 + Q/F)` dB. F is that of the best known
networks, so all others lose less than the number says. Noise is not the only fault: detail that is lost on the
worst patch (SSIM to the float output) and a colour shift (the change of a channel's mean) are converted to decibels as
well, and the largest of the three is the loss.

Originals of the held-out patches do not affect the selection: a network trained with adversarial losses is further from
them than bicubic interpolation, and noise may even bring it closer. The PSNR of luma to the originals is reported as in
papers: pooled over each picture, then the mean over pictures, without a border of `scale` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import HeldOut
from sr_edge.controls import Controls, checked_pairs
from sr_edge.errors import CalibrationError
from sr_edge.frames import Batch
from sr_edge.metrics import cost_of_noise_db, fidelity
from sr_edge.spec import Control

if TYPE_CHECKING:  # it needs onnxruntime, and the self-test of a device, which judges by this module, must not
    from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph

BEST_KNOWN_DB = {2: 38.5, 3: 35.0, 4: 33.0}
"""By scale, the PSNR of luma on Set5 that no published network exceeds by much."""

OTHER_SCALES_DB = 40.0
"""For networks that keep the size, and scales that papers do not report."""

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0

SSIM_PER_DB = 0.2
"""A loss of 0.01 in SSIM counts as 0.05 dB, which is more than white noise of 0.05 dB alone loses."""

COLOR_SHIFT_PER_DB = 10.0 / 255.0
"""A change of a channel's mean by half an 8-bit level counts as 0.05 dB; in flat areas it is visible as a tint."""


def best_known_db(scale: int) -> float:
    """The PSNR that a network of that scale is assumed to have."""
    return BEST_KNOWN_DB.get(scale, OTHER_SCALES_DB)


class QualityEvaluator:
    """Runs the network on the held-out patches, in float once and then with any set of layers in INT8."""

    def __init__(
        self,
        graph: FakeQuantGraph,
        held_out: Sequence[HeldOut],
        controls: Sequence[Control] = (),
        input_range: float = 1.0,
    ) -> None:
        if not held_out:
            raise CalibrationError(
                "there are no held-out patches to measure the loss of INT8 on",
                found=0,
                wanted=1,
                remedy="pass more pictures",
            )
        have_original = [held.original is not None for held in held_out]
        if any(have_original) and not all(have_original):
            raise CalibrationError(
                f"only {sum(have_original)} of {len(held_out)} held-out patches have originals",
                found=sum(have_original),
                wanted=(0, len(held_out)),
                remedy="pass originals for all of them or for none",
            )
        self._graph = graph
        self._input_range = np.float32(input_range)
        self._has_originals = all(have_original)
        self._runs: list[tuple[HeldOut, Controls]] = [*checked_pairs(held_out, controls)]
        self._at_defaults = self._runs[: len(held_out)]
        self._floats = [self._run(held, setting, ()) for held, setting in self._runs]
        self._drops_db: dict[frozenset[str], float] = {}
        first = held_out[0]
        self.scale = self._floats[0].shape[-1] // first.patch.shape[-1]
        self._require_fitting_originals()

    @property
    def assumed_db(self) -> float:
        """The PSNR that the network is assumed to have."""
        return best_known_db(self.scale)

    @property
    def metric(self) -> str:
        """What the loss in decibels is, as a noun phrase."""
        count = len({id(held) for held, _ in self._runs})
        return (
            f"the largest of noise, lost detail and colour shift, relative to the float output on {count} held-out "
            f"patches, for an image that the float network restores with a PSNR of {self.assumed_db:g} dB"
        )

    def noise_power(self, int8: Collection[str], patches: int | None = None) -> float:
        """The mean squared error of luma to the float output, for an input range of 1, on the first `patches`."""
        runs = list(zip(self._runs, self._floats, strict=True))[:patches]
        return _mean_power([(self._run(held, setting, int8), reference) for (held, setting), reference in runs])

    def db_of_noise(self, noise_power: float) -> float:
        """The loss in dB by noise of that power, for an image that the float network restores at `assumed_db`."""
        return cost_of_noise_db(noise_power, self.assumed_db)

    def drop_db(self, int8: Collection[str]) -> float:
        """The joint loss of these layers in dB; the results are remembered."""
        key = frozenset(int8)
        if key not in self._drops_db:
            self._drops_db[key] = self._drop_db([self._run(held, setting, key) for held, setting in self._runs])
        return self._drops_db[key]

    def drop_db_in(self, run: Callable[[Batch, Controls], Batch]) -> float:
        """The loss in dB of the outputs of `run`, which takes a patch in the input range and control values."""
        return self._drop_db(
            [run(held.patch * self._input_range, setting) / self._input_range for held, setting in self._runs]
        )

    def drop_on_originals_db(self, int8: Collection[str]) -> float | None:
        """The loss of these layers in PSNR of luma to the originals; None if there are no originals."""
        if not self._has_originals:
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
            assert held.original is not None  # for mypy; checked in __init__
            inner = np.s_[self.scale : -self.scale, self.scale : -self.scale]
            difference = (luma(picture) - luma(held.original))[inner]
            errors.setdefault(held.picture, []).append(float(np.mean(np.square(difference))))
        return float(np.mean([-10.0 * math.log10(max(float(np.mean(each)), 1e-12)) for each in errors.values()]))

    def _require_fitting_originals(self) -> None:
        for (held, _), picture in zip(self._runs, self._floats, strict=True):
            if held.original is not None and held.original.shape[2:] != picture.shape[2:]:
                original_px, output_px = held.original.shape[2:], picture.shape[2:]
                raise CalibrationError(
                    f"the original of a held-out patch is {_size_text(original_px)} pixels, but the network output is "
                    f"{_size_text(output_px)}",
                    found=original_px,
                    wanted=output_px,
                    remedy=f"pass originals {self.scale} times the size of the patches",
                )


def _size_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def cost_of_pictures_db(outputs: Sequence[Batch], references: Sequence[Batch], float_db: float) -> float:
    """The loss in dB of images relative to those of the float network, all float NCHW in [0, 1].

    It is the largest of three: the noise in luma, and the lost detail and the colour shift of the worst image. Alpha,
    where the network has it, counts as much as luma, and the larger loss decides.
    """
    pairs = list(zip(outputs, references, strict=True))
    fidelities = [fidelity(output, reference) for output, reference in pairs]
    if not all(math.isfinite(each.color_shift) for each in fidelities):
        return math.inf
    detail_db = (1.0 - min(each.ssim for each in fidelities)) / SSIM_PER_DB
    color_shift_db = max(each.color_shift for each in fidelities) / COLOR_SHIFT_PER_DB
    return max(cost_of_noise_db(_mean_power(pairs), float_db), detail_db, color_shift_db)


def _mean_power(pairs: Sequence[tuple[Batch, Batch]]) -> float:
    """The mean squared difference of luma over all pairs, or that of alpha where it is larger."""
    squares = [[np.mean(np.square(a - b)) for a, b in zip(*map(_planes, pair), strict=True)] for pair in pairs]
    return float(np.mean(squares, axis=0).max())


def luma(batch_nchw: Batch) -> npt.NDArray[np.float64]:
    """(height, width) The luma in [0, 1] of one image, whose alpha is ignored, clipped as in an image file."""
    return _planes(batch_nchw)[0]


def _planes(batch_nchw: Batch) -> tuple[npt.NDArray[np.float64], ...]:
    """Luma, and alpha if there is one."""
    channels = np.clip(batch_nchw[0].astype(np.float64), 0.0, 1.0)
    return (channels[0],) if len(channels) == 1 else (np.tensordot(_LUMA, channels[:3], axes=1), *channels[3:])

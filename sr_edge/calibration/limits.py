"""How much memory a calibration takes, how much it samples, and how much of it an interruption can lose."""

from __future__ import annotations

from dataclasses import dataclass

from sr_edge.calibration.collect import OBSERVED_BYTES
from sr_edge.calibration.finetuning import SAMPLES


@dataclass(frozen=True)
class Limits:
    """How much a calibration holds in memory, how much it samples, and how often it writes its cache.

    `observed_bytes` limits the tensors that are observed in one pass over the patches, `finetuning_samples` are the
    output positions of each layer that fine-tuning fits and checks it on, and the cache is written after every
    `save_every` layers of which the noise was measured.
    """

    observed_bytes: int = OBSERVED_BYTES
    finetuning_samples: int = SAMPLES
    save_every: int = 8


USUAL_LIMITS = Limits()

"""The noise that each INT8 layer adds to the output by itself, by which layers are ranked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from sr_edge.calibration.data.patch import HeldOut, StepProgress, digest_of
from sr_edge.calibration.result.calibration import Calibration, Sensitivity
from sr_edge.calibration.selection.quality import QualityEvaluator

PATCHES = 1
"""Number of held-out patches on which single layers are compared.

On one patch a layer's noise was between a ninth and twice its mean over 28 patches, and the layers that cost too much
for what they save were the same for one patch, two and all. The joint check uses all patches.
"""


def measure_sensitivity(
    calibration: Calibration,
    evaluator: QualityEvaluator,
    held_out: Sequence[HeldOut],
    progress: StepProgress,
    save: Callable[[Sensitivity], None],
    save_every: int,
) -> Sensitivity:
    """Runs the network with one layer after another in INT8 and measures the noise in the luma of its output.

    The noises rank the layers but do not add up: `choose_layers` measures the layers it selects together.

    Args:
        calibration: The noises it contains are kept where they were measured on the same patches in the same way.
        evaluator: Runs the network on `held_out`.
        held_out: The patches of the evaluator.
        progress: Called with (layers done, layers in all).
        save: Called with the noises measured so far, so that an interrupted run can be continued.
        save_every: The number of layers between two calls of `save`.
    """
    steps = calibration.finetuning.steps if calibration.finetuning is not None else 0
    conditions = [digest_of(held.patch) for held in held_out]
    conditions += [f"fine-tuning {steps}" if steps else "", f"by {PATCHES}"]
    digest = hashlib.sha256("".join(conditions).encode()).hexdigest()
    cached = calibration.sensitivity
    noises = dict(cached.noise_power) if cached is not None and cached.held_out_sha256 == digest else {}
    missing = [node for node in calibration.int8_nodes if node not in noises]
    for index, node in enumerate(missing, start=1):
        noises[node] = evaluator.noise_power((node,), PATCHES)
        progress(index, len(missing))
        if index % save_every == 0:
            save(Sensitivity(digest, dict(noises)))
    return Sensitivity(digest, noises)

"""The training loop, which can be continued after the process was killed at any step; it writes averaged weights."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sr_edge.errors import TrainingError, TrainingInterrupted
from sr_edge.files.unfinished import remove_unfinished
from sr_edge.files.whole_file import whole_file
from sr_edge.models.loading.weights import learned_state
from sr_edge.spec import Precision
from sr_edge.training.checkpoint import REMEDY, read_checkpoint, write_checkpoint
from sr_edge.training.data import CropSource, PairSet
from sr_edge.training.log import LOG, append_row, truncate_after
from sr_edge.training.losses.objective import Objective, PixelLoss
from sr_edge.training.precision import choose_precision, has_bfloat16
from sr_edge.training.processes import Processes
from sr_edge.training.recipe import OptimizerName, Recipe
from sr_edge.training.stopping import deferred_signals
from sr_edge.training.validation import mean_psnr_db

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Name in the message of torch's RuntimeError where the CPU has not enough memory."""


@dataclass(frozen=True)
class TrainingProgress:
    """Progress after one step.

    Args:
        step: number of completed steps.
        steps: number of steps of the recipe.
        loss: loss of the step.
        psnr_db: PSNR-Y of the last validation; NaN before the first one.
        pictures_per_s: crops per second.
    """

    step: int
    steps: int
    loss: float
    psnr_db: float
    pictures_per_s: float


@dataclass
class TrainingState:
    """All that a continuation needs; the order of the data is determined by the step.

    Args:
        network: the network in training.
        average: the moving average of its weights.
        optimizer: the optimiser of its weights.
        objective: the objective.
        step: number of completed steps.
        psnr_db: PSNR-Y of the last validation.
        seconds: duration of all steps.
        precision: precision of the forward pass.
        device_type: type of the device on which the checkpoint was written; empty without a checkpoint.
    """

    network: nn.Module
    average: AveragedModel
    optimizer: Optimizer
    objective: Objective
    step: int = 0
    psnr_db: float = math.nan
    seconds: float = 0.0
    precision: Precision = Precision.FP32
    device_type: str = ""

    def save(self, path: Path, training: Training) -> None:
        """Writes the checkpoint; raises TrainingError where that fails."""
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "step": self.step,
            "psnr_db": self.psnr_db,
            "seconds": self.seconds,
            "precision": str(self.precision),
            "device": training.processes.device.type,
            "recipe": training.recipe.document(),
            "begun_from": dict(training.origin),
        }
        with reporting_write_errors(path):
            write_checkpoint(path, content)

    def restore(self, path: Path, training: Training) -> None:
        """Reads the checkpoint; raises TrainingError where it is unreadable or belongs to another training."""
        content = read_checkpoint(path, training.recipe, training.origin)
        try:
            self.network.load_state_dict(content["network"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.objective.load_state_dict(content["objective"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{path} belongs to another network or scale",
                found=path,
                wanted="the weights of this network at this scale",
                remedy=REMEDY,
            ) from error
        self.step, self.psnr_db, self.seconds = content["step"], content["psnr_db"], content["seconds"]
        default = Precision.BF16 if training.recipe.mixed_precision else Precision.FP32  # for older checkpoints
        self.precision = Precision(content.get("precision", default))
        self.device_type = content.get("device", "")


@dataclass(frozen=True)
class Training:
    """What stays the same from step to step.

    Args:
        crops: source of the training crops.
        validation: test pairs of the validation.
        out: folder of checkpoint, log and weights.
        recipe: the settings.
        progress: called after every step.
        processes: device and processes.
        origin: what the training starts from (`training_origin`); a checkpoint with another origin is refused.
        on_event: receives sentences for the user before the first step.
        paired_input: `Architecture.paired_input` of the network; None for a network that is trained on one image.
        supports_bfloat16: whether a device supports mixed precision.
    """

    crops: CropSource
    validation: PairSet
    out: Path
    recipe: Recipe
    progress: Callable[[TrainingProgress], None] = lambda _: None
    processes: Processes = field(default_factory=lambda: Processes(torch.device("cpu")))
    origin: Mapping[str, str] = field(default_factory=dict)
    on_event: Callable[[str], None] = lambda _: None
    paired_input: Callable[[nn.Module], nn.Module] | None = None
    supports_bfloat16: Callable[[torch.device], bool] = has_bfloat16


@dataclass(frozen=True)
class TrainingResult:
    """The result of one call of `run_training`.

    Args:
        weights: safetensors file of the moving average of the weights, in float16.
        steps: number of steps of this call.
        precision: precision of the last step, even if an earlier call made it.
    """

    weights: Path
    steps: int
    precision: Precision


def train(network: nn.Module, training: Training, objective: Objective | None = None) -> Path:
    """Runs `run_training` and returns the path of the weights."""
    return run_training(network, training, objective).weights


def run_training(network: nn.Module, training: Training, objective: Objective | None = None) -> TrainingResult:
    """Trains a network in place and writes checkpoint, log and averaged weights into `training.out`.

    An existing checkpoint there is continued; on a CPU the weights are then identical to those of an uninterrupted run.

    Args:
        network: the network.
        training: data, recipe and output folder.
        objective: the objective; None takes the L1 loss.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint is damaged or belongs to another training.
        TrainingInterrupted: Ctrl-C; the current step was finished and saved. A second Ctrl-C stops at once.
        UsageError: the batch cannot be divided between the processes.
    """
    out, recipe, processes = training.out, training.recipe, training.processes
    processes.require_batch(recipe.batch)
    out.mkdir(parents=True, exist_ok=True)
    network.to(processes.device)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    state = TrainingState(network, average, _optimizer(network, recipe), objective or PixelLoss())
    if (out / CHECKPOINT).exists():
        state.restore(out / CHECKPOINT, training)
    if state.step < recipe.steps:
        _choose_precision(state, training)
    if processes.is_first:
        _remove_leftovers(out, state.step)
    first_step = state.step
    forward = processes.distribute(training.paired_input(network) if training.paired_input else network)
    if recipe.compile:
        forward.compile()
    with deferred_signals() as signals:
        stopped = False
        # All processes stop after the same step, since each of them asks all others: a process that stopped alone would
        # leave the others waiting in the next all-reduce.
        while state.step < recipe.steps and not stopped:
            advance(state, forward, training)
            stopped = processes.any(bool(signals))
        if stopped and processes.is_first:
            state.save(out / CHECKPOINT, training)
    if signal.SIGTERM in signals:
        signal.raise_signal(signal.SIGTERM)
    if stopped:
        raise TrainingInterrupted(
            f"interrupted after step {state.step} of {recipe.steps}, with all steps saved in {out}",
            found=state.step,
            wanted=recipe.steps,
            remedy="run the same training again to continue from there",
        )
    if state.step == first_step and processes.is_first:
        save_weights(state.average.module, out / WEIGHTS)
    processes.wait_for_all()
    return TrainingResult(out / WEIGHTS, state.step - first_step, state.precision)


def _remove_leftovers(out: Path, step: int) -> None:
    """Removes unfinished files of a process that was killed after `step`, and log rows that will be written again."""
    for name in (CHECKPOINT, LOG, WEIGHTS):
        remove_unfinished(out / name)
    with reporting_write_errors(out / LOG):
        truncate_after(out / LOG, step)


def _choose_precision(state: TrainingState, training: Training) -> None:
    device = training.processes.device
    previous = state.precision if state.step else None
    state.precision, remark = choose_precision(training.recipe, device, previous, training.supports_bfloat16)
    if remark:
        training.on_event(remark)
    if state.device_type not in ("", device.type):
        training.on_event(
            f"the first {state.step} steps ran on {state.device_type}, the remaining ones run on {device.type}"
        )


def _optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    if recipe.optimizer is OptimizerName.ADAMW:
        return AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return Adam(network.parameters(), lr=recipe.learning_rate)


def advance(state: TrainingState, forward: Callable[[Tensor], Tensor], training: Training) -> None:
    """Runs one step, and the validation and the checkpoint that are due after it."""
    out, recipe, device = training.out, training.recipe, training.processes.device
    started = time.perf_counter()
    crops = f"{recipe.batch} crops of {recipe.patch_px}x{recipe.patch_px}"
    with _reporting_out_of_memory(crops, "choose a smaller batch or patch_px, and another --output", device):
        loss = training_step(state, forward, training)
    elapsed = time.perf_counter() - started
    state.seconds += elapsed
    last = state.step == recipe.steps
    if not training.processes.is_first:
        return
    if state.step % recipe.validate_every == 0 or last:
        with _reporting_out_of_memory("validation images of this size", "crop or remove the largest", device):
            state.psnr_db = mean_psnr_db(state.average.module, training.validation)
        rate = recipe.learning_rate_at(state.step - 1)
        with reporting_write_errors(out / LOG):
            append_row(out / LOG, state.step, state.seconds / 60, rate, loss, state.psnr_db)
        save_weights(state.average.module, out / WEIGHTS)
    if state.step % recipe.checkpoint_every == 0 or last:
        state.save(out / CHECKPOINT, training)
    training.progress(TrainingProgress(state.step, recipe.steps, loss, state.psnr_db, recipe.batch / elapsed))


def training_step(state: TrainingState, forward: Callable[[Tensor], Tensor], training: Training) -> float:
    """Runs one optimiser step and returns the loss of its crops, averaged over all processes.

    Raises:
        TrainingError: loss or gradient is not finite; the weights are still those of the step before.
    """
    recipe, processes = training.recipe, training.processes
    device = processes.device
    batch = training.crops.batch(state.step, recipe.batch, recipe.patch_px, recipe.seed, processes.part)
    lr, hr = (images.to(device) for images in batch)
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.learning_rate_at(state.step)
    state.network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=state.precision is Precision.BF16):
        prediction = forward(lr)
    prediction = prediction.float()
    loss = state.objective.loss(prediction, hr)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
    mean_loss = processes.mean(loss.item())
    if not (math.isfinite(mean_loss) and math.isfinite(norm.item())):
        _raise_not_finite(state, training, mean_loss)
    state.optimizer.step()
    state.average.update_parameters(state.network)
    state.objective.update(prediction.detach(), hr)
    state.step += 1
    return mean_loss


def _raise_not_finite(state: TrainingState, training: Training, loss: float) -> NoReturn:
    """Saves the averaged weights if they are finite, and raises TrainingError."""
    is_loss = not math.isfinite(loss)
    problem = f"the loss became {loss}" if is_loss else "the gradient became infinite or NaN"
    wanted = "a finite loss" if is_loss else "a finite gradient"
    is_finite = all(value.isfinite().all() for value in learned_state(state.average.module).values())
    if state.step == 0 or not is_finite:
        raise TrainingError(
            f"{problem} in step {state.step}",
            found=state.step,
            wanted=wanted,
            remedy="start with other weights or a lower learning rate",
        )
    weights = training.out / WEIGHTS
    if training.processes.is_first:
        save_weights(state.average.module, weights)
    raise TrainingError(
        f"{problem} in step {state.step}, and the last good weights are in {weights}",
        found=state.step,
        wanted=wanted,
        remedy=f"lower the learning rate and start from them: --weights {weights}, with another --output",
    )


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Converts an OSError, for example of a full disk, into a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror}",
            found=path,
            remedy="free some space, then run the same training again to continue",
        ) from error


@contextmanager
def _reporting_out_of_memory(data: str, remedy: str, device: torch.device) -> Iterator[None]:
    """Converts an out-of-memory error into a TrainingError; torch raises a plain RuntimeError for it on the CPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and CPU_ALLOCATOR not in str(error):
            raise
        raise TrainingError(f"not enough memory on {device} for {data}", found=data, remedy=remedy) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """Writes the learned values as float16 safetensors, which has half the size and differs by less than 0.001 dB."""
    learned = {key: value.detach().cpu().contiguous() for key, value in learned_state(network).items()}
    float16_state = {key: value.half() if value.is_floating_point() else value for key, value in learned.items()}
    with reporting_write_errors(path), whole_file(path) as unfinished:
        unfinished.write_bytes(save(float16_state))

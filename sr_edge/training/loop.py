"""The training loop: resumable after a kill at any step, with a log and the averaged weights as its result."""

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
from sr_edge.models.weights import learned_state
from sr_edge.spec import Precision
from sr_edge.training.checkpoint import REMEDY, read_checkpoint, write_checkpoint
from sr_edge.training.data import CropSource, PairSet
from sr_edge.training.log import LOG, append_row, truncate_after
from sr_edge.training.objective import Objective, PixelLoss
from sr_edge.training.precision import choose_precision, has_bfloat16
from sr_edge.training.processes import Processes
from sr_edge.training.recipe import OptimizerName, Recipe
from sr_edge.training.stopping import deferred_signals
from sr_edge.training.validation import mean_psnr_db
from sr_edge.whole_file import remove_unfinished, whole_file

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
CPU_SHORTAGE = "DefaultCPUAllocator"


@dataclass(frozen=True)
class TrainingProgress:
    """State after one step, for a progress bar: `psnr_db` is the last validation's."""

    step: int
    steps: int
    loss: float
    psnr_db: float
    pictures_per_s: float


@dataclass
class TrainingState:
    """All that a continuation needs; the data order follows from the step."""

    network: nn.Module
    average: AveragedModel
    optimizer: Optimizer
    objective: Objective
    step: int = 0
    psnr_db: float = math.nan
    seconds: float = 0.0
    precision: Precision = Precision.FP32
    begun_on: str = ""

    def save(self, path: Path, training: Training) -> None:
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
        unsaid = Precision.BF16 if training.recipe.mixed_precision else Precision.FP32  # older checkpoints
        self.precision = Precision(content.get("precision", unsaid))
        self.begun_on = content.get("device", "")


@dataclass(frozen=True)
class Training:
    """What stays the same from step to step: where the crops come from, where results go, and how.

    A checkpoint that began from something other than `origin` (see `training_origin`) is refused. `on_event` receives
    sentences that people should read before the first step. `supports_bfloat16` decides whether mixed precision is
    used on a device.
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
    """The weights (safetensors, float16: the moving average of the network's), how many steps this call made, in what.

    `precision` is that of the last step, also where another call made it.
    """

    weights: Path
    steps: int
    precision: Precision


def train(network: nn.Module, training: Training, objective: Objective | None = None) -> Path:
    """`run_training` for those who want nothing but the path of the weights."""
    return run_training(network, training, objective).weights


def run_training(network: nn.Module, training: Training, objective: Objective | None = None) -> TrainingResult:
    """Trains `network` in place and writes checkpoint, log and averaged weights into `training.out`.

    A checkpoint found there is continued, and on a CPU gives the same weights as an uninterrupted run.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint is damaged or belongs to another training.
        TrainingInterrupted: Ctrl-C; the step under way was finished and saved. A second Ctrl-C stops at once.
        UsageError: the batch cannot be shared.
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
        _settle_precision(state, training)
    if processes.is_first:
        _remove_leftovers(out, state.step)
    begun_at = state.step
    forward = processes.distribute(training.paired_input(network) if training.paired_input else network)
    if recipe.compile:
        forward.compile()
    with deferred_signals() as noted:
        stopped = False
        while state.step < recipe.steps and not stopped:
            advance(state, forward, training)
            stopped = processes.any(bool(noted))
        if stopped and processes.is_first:
            state.save(out / CHECKPOINT, training)
    if signal.SIGTERM in noted:
        signal.raise_signal(signal.SIGTERM)
    if stopped:
        raise TrainingInterrupted(
            f"interrupted after step {state.step} of {recipe.steps}, with all steps saved in {out}",
            found=state.step,
            wanted=recipe.steps,
            remedy="run the same training again to go on from there",
        )
    if state.step == begun_at and processes.is_first:
        save_weights(state.average.module, out / WEIGHTS)
    processes.wait_for_all()
    return TrainingResult(out / WEIGHTS, state.step - begun_at, state.precision)


def _remove_leftovers(out: Path, step: int) -> None:
    """Of a process that was killed after `step`: half-written files, and log lines that will be written again."""
    for name in (CHECKPOINT, LOG, WEIGHTS):
        remove_unfinished(out / name)
    with reporting_write_errors(out / LOG):
        truncate_after(out / LOG, step)


def _settle_precision(state: TrainingState, training: Training) -> None:
    device = training.processes.device
    kept = state.precision if state.step else None
    state.precision, remark = choose_precision(training.recipe, device, kept, training.supports_bfloat16)
    if remark:
        training.on_event(remark)
    if state.begun_on not in ("", device.type):
        training.on_event(
            f"the first {state.step} steps were made on {state.begun_on}, the others are on {device.type}"
        )


def _optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    if recipe.optimizer is OptimizerName.ADAMW:
        return AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return Adam(network.parameters(), lr=recipe.learning_rate)


def advance(state: TrainingState, forward: Callable[[Tensor], Tensor], training: Training) -> None:
    """One step, and the validation and the checkpoint that are due after it."""
    out, recipe, device = training.out, training.recipe, training.processes.device
    started = time.perf_counter()
    crops = f"{recipe.batch} crops of {recipe.patch_px}x{recipe.patch_px}"
    with _reporting_out_of_memory(crops, "choose a smaller batch or patch_px, and another --out", device):
        loss = training_step(state, forward, training)
    elapsed = time.perf_counter() - started
    state.seconds += elapsed
    last = state.step == recipe.steps
    if not training.processes.is_first:
        return
    if state.step % recipe.validate_every == 0 or last:
        with _reporting_out_of_memory("validation pictures as large as these", "cut or leave out the largest", device):
            state.psnr_db = mean_psnr_db(state.average.module, training.validation)
        rate = recipe.learning_rate_at(state.step - 1)
        with reporting_write_errors(out / LOG):
            append_row(out / LOG, state.step, state.seconds / 60, rate, loss, state.psnr_db)
        save_weights(state.average.module, out / WEIGHTS)
    if state.step % recipe.checkpoint_every == 0 or last:
        state.save(out / CHECKPOINT, training)
    training.progress(TrainingProgress(state.step, recipe.steps, loss, state.psnr_db, recipe.batch / elapsed))


def training_step(state: TrainingState, forward: Callable[[Tensor], Tensor], training: Training) -> float:
    """One optimiser step; returns the loss of its crops.

    Raises:
        TrainingError: loss or gradient is not finite; the weights are still those of the step before.
    """
    recipe, processes = training.recipe, training.processes
    device = processes.device
    batch = training.crops.batch(state.step, recipe.batch, recipe.patch_px, recipe.seed, processes.part)
    lr, hr = (half.to(device) for half in batch)
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
        _stop_at_the_last_good_weights(state, training, mean_loss)
    state.optimizer.step()
    state.average.update_parameters(state.network)
    state.objective.update(prediction.detach(), hr)
    state.step += 1
    return mean_loss


def _stop_at_the_last_good_weights(state: TrainingState, training: Training, loss: float) -> NoReturn:
    is_loss = not math.isfinite(loss)
    what = f"the loss became {loss}" if is_loss else "the gradient became infinite or NaN"
    wanted = "a finite loss" if is_loss else "a finite gradient"
    good = all(value.isfinite().all() for value in learned_state(state.average.module).values())
    if state.step == 0 or not good:
        raise TrainingError(
            f"{what} in step {state.step}",
            found=state.step,
            wanted=wanted,
            remedy="begin with other weights or a lower learning rate",
        )
    weights = training.out / WEIGHTS
    if training.processes.is_first:
        save_weights(state.average.module, weights)
    raise TrainingError(
        f"{what} in step {state.step}, and the last good weights are in {weights}",
        found=state.step,
        wanted=wanted,
        remedy=f"lower the learning rate and begin from them: --weights {weights}, with another --out",
    )


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """A full disk becomes one clear error."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror}",
            found=path,
            remedy="free some space, then run the same training again to go on",
        ) from error


@contextmanager
def _reporting_out_of_memory(what: str, remedy: str, device: torch.device) -> Iterator[None]:
    """Too little memory becomes one clear error; on the CPU torch tells of it by a RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and CPU_SHORTAGE not in str(error):
            raise
        raise TrainingError(f"not enough memory on {device} for {what}", found=what, remedy=remedy) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """What was learnt as float16 safetensors (half the bytes, and less than 0.001 dB of difference)."""
    learned = {key: value.detach().cpu().contiguous() for key, value in learned_state(network).items()}
    halves = {key: value.half() if value.is_floating_point() else value for key, value in learned.items()}
    with reporting_write_errors(path), whole_file(path) as unfinished:
        unfinished.write_bytes(save(halves))

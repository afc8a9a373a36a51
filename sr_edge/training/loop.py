"""The training loop: resumable after a kill at any step, with a log and the averaged weights as its result."""

from __future__ import annotations

import csv
import math
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sr_edge.errors import TrainingError, TrainingInterrupted
from sr_edge.models.weights import learnt_state
from sr_edge.training.data import PairSet
from sr_edge.training.recipe import Recipe
from sr_edge.training.stopping import noted_signals
from sr_edge.training.validation import mean_psnr_db
from sr_edge.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Progress:
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
    optimizer: Adam
    step: int = 0
    psnr_db: float = math.nan
    seconds: float = 0.0

    def save(self, path: Path, recipe: Recipe) -> None:
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "psnr_db": self.psnr_db,
            "seconds": self.seconds,
            "recipe": asdict(recipe),
        }
        with _writing(path), whole_file(path) as unfinished:
            torch.save(content, unfinished)

    def restore(self, path: Path, recipe: Recipe) -> None:
        try:
            content: dict[str, Any] = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"{path} is damaged; delete it to begin again, or give another output folder"
            ) from error
        if content["recipe"] != asdict(recipe):
            raise TrainingError(f"{path} was made with another recipe; give another output folder, or that recipe")
        try:
            self.network.load_state_dict(content["network"])
        except RuntimeError as error:
            raise TrainingError(f"{path} belongs to another network or scale; give another output folder") from error
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.psnr_db, self.seconds = content["step"], content["psnr_db"], content["seconds"]


def train(
    network: nn.Module,
    training: PairSet,
    validation: PairSet,
    out: Path,
    recipe: Recipe,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Trains `network` in place and writes checkpoint, log and averaged weights into `out`.

    A checkpoint found in `out` is continued, and gives the same weights as an uninterrupted run.

    Returns:
        Path of the weights (safetensors, float16): the moving average of the network's.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint belongs to another recipe.
        TrainingInterrupted: Ctrl-C; the step under way was finished and saved. A second Ctrl-C stops at once.
    """
    out.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    state = TrainingState(network, average, Adam(network.parameters(), lr=recipe.learning_rate))
    if (out / CHECKPOINT).is_file():
        state.restore(out / CHECKPOINT, recipe)
    forward = torch.compile(network) if recipe.compile else network
    with noted_signals() as noted:
        while state.step < recipe.steps and not noted:
            advance(state, forward, training, validation, out, recipe, progress)
        if noted:
            state.save(out / CHECKPOINT, recipe)
    if signal.SIGTERM in noted:
        signal.raise_signal(signal.SIGTERM)
    if noted:
        raise TrainingInterrupted(
            f"interrupted after step {state.step} of {recipe.steps}; all is saved in {out}, "
            "run the same training again to go on from there"
        )
    return out / WEIGHTS


def advance(
    state: TrainingState,
    forward: Callable[[Tensor], Tensor],
    training: PairSet,
    validation: PairSet,
    out: Path,
    recipe: Recipe,
    progress: Callable[[Progress], None],
) -> None:
    """One step, and the validation and the checkpoint that are due after it."""
    started = time.perf_counter()
    loss = training_step(state, forward, training, recipe)
    if not math.isfinite(loss):
        raise TrainingError(f"the loss became {loss} in step {state.step}; lower the learning rate and start again")
    elapsed = time.perf_counter() - started
    state.seconds += elapsed
    last = state.step == recipe.steps
    if state.step % recipe.validate_every == 0 or last:
        state.psnr_db = mean_psnr_db(state.average.module, validation)
        append_log(out / LOG, state, loss, recipe)
        save_weights(state.average.module, out / WEIGHTS)
    if state.step % recipe.checkpoint_every == 0 or last:
        state.save(out / CHECKPOINT, recipe)
    progress(Progress(state.step, recipe.steps, loss, state.psnr_db, recipe.batch / elapsed))


def training_step(
    state: TrainingState, forward: Callable[[Tensor], Tensor], training: PairSet, recipe: Recipe
) -> float:
    """One optimiser step; returns the L1 loss of its crops."""
    lr, hr = training.batch(state.step, recipe.batch, recipe.patch_px, recipe.seed)
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.learning_rate_at(state.step)
    state.network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.mixed_precision):
        prediction = forward(lr)
    loss = functional.l1_loss(prediction.float(), hr)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
    state.optimizer.step()
    state.average.update_parameters(state.network)
    state.step += 1
    return loss.item()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A full disk becomes one clear error; torch tells of it by a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(
            f"cannot write {path}: {reason}; free some space, then run the same training again to go on"
        ) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """What was learnt as float16 safetensors (half the bytes, and less than 0.001 dB of difference)."""
    learnt = {key: value.detach().contiguous() for key, value in learnt_state(network).items()}
    halves = {key: value.half() if value.is_floating_point() else value for key, value in learnt.items()}
    with _writing(path), whole_file(path) as unfinished:
        unfinished.write_bytes(save(halves))


def append_log(path: Path, state: TrainingState, loss: float, recipe: Recipe) -> None:
    fresh = not path.exists() or path.stat().st_size == 0  # a full disk leaves an empty file
    with _writing(path), path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "minutes", "learning_rate", "loss", "psnr_db"])
        minutes = f"{state.seconds / 60:.2f}"
        rate = f"{recipe.learning_rate_at(state.step - 1):.3g}"
        writer.writerow([state.step, minutes, rate, f"{loss:.5f}", f"{state.psnr_db:.3f}"])

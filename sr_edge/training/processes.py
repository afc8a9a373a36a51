"""Where training runs: one device, or one in each process that torch's own launcher, torchrun, has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sr_edge.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process among those that share each batch; the first one validates and writes."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> slice:
        """This process's crops of a batch."""
        return slice(self.rank, None, self.count)

    def require_batch(self, batch: int) -> None:
        """Raises UsageError unless every process gets the same number of crops."""
        if batch % self.count:
            raise UsageError(
                f"a batch of {batch} cannot be shared by {self.count} processes",
                found=batch,
                wanted=self.count,
                remedy=f"use a multiple of {self.count}",
            )

    def distribute(self, network: nn.Module) -> nn.Module:
        """The network to train through: its gradients are the mean over the processes."""
        if self.count == 1:
            return network
        # LCoAN keeps convolutions that its later groups never use; without the search they would be waited for.
        return DistributedDataParallel(network, find_unused_parameters=True)

    def mean(self, number: float) -> float:
        """Over all processes, each of which must ask; not finite where one of the numbers is not."""
        if self.count == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.item() / self.count

    def any(self, found: bool) -> bool:
        """Whether it is so in some process; each of them must ask."""
        return self.mean(float(found)) > 0

    def wait_for_all(self) -> None:
        self.mean(0.0)


def is_first_process() -> bool:
    """Before anything is set up: whether this process is the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_processes(device: str | None = None) -> Iterator[Processes]:
    """Joins the processes of torchrun, if it started this one, and leaves them at the end.

    Args:
        device: "cpu" or "cuda"; None takes CUDA where it is.

    Raises:
        UsageError: the device is not there.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise UsageError(
            f"cannot train on {kind!r}", found=kind, wanted=("cpu", "cuda"), remedy="choose one of: cpu, cuda"
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "torch finds no CUDA device here",
            found=kind,
            wanted="cpu",
            remedy="leave --device out, or pass --device cpu",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(torch.device(kind))
        return
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(place, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

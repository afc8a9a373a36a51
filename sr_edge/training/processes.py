"""Devices and processes of a training: one device, or one for each process that torchrun has started."""

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
    """This process among those that share each batch; the first one validates and writes files.

    Args:
        device: its device.
        rank: its rank.
        count: number of processes.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates and writes files."""
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
        """Wraps the network so that its gradients are averaged over all processes."""
        if self.count == 1:
            return network
        # LCoAN has parameters that are never used; without the search, backward would wait for their gradients.
        return DistributedDataParallel(network, find_unused_parameters=True)

    def mean(self, number: float) -> float:
        """The mean over all processes, each of which must call this; not finite where one of the numbers is not."""
        if self.count == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.item() / self.count

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, each of which must call this."""
        return self.mean(float(flag)) > 0

    def wait_for_all(self) -> None:
        """Waits until every process has called this: the all-reduce of `mean` is a barrier."""
        self.mean(0.0)


def is_first_process() -> bool:
    """Whether this process reports progress; usable before the process group is initialised."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_processes(device: str | None = None) -> Iterator[Processes]:
    """Joins the process group if torchrun has started this process, and leaves it at the end, as a context manager.

    Args:
        device: "cpu" or "cuda"; None uses CUDA where it is available.

    Raises:
        UsageError: the device is unknown or not available.
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
    local_device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(local_device)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(local_device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

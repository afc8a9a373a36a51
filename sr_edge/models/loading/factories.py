"""Networks that are built by the user's own code, given as package.module:factory."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from sr_edge.errors import UsageError
from sr_edge.models.checkpoints.bounds import short_line

RANDOM_SEED = 0


def call_factory(arch: str) -> nn.Module:
    """Builds a network by calling a factory of the user.

    The module and what it imports are searched for in the working folder first, then where Python finds packages. All
    of it is run as code. torch's random numbers are seeded meanwhile.

    Args:
        arch: "package.module:factory"; the factory takes no arguments.

    Raises:
        UsageError: the factory cannot be imported or called, or does not return a torch.nn.Module.
    """
    module_name, _, factory_name = arch.partition(":")
    if not module_name or not factory_name:
        raise UsageError(
            f"cannot read {arch!r} as a factory",
            found=arch,
            wanted="package.module:factory",
            remedy="write package.module:factory",
        )
    working_folder = str(Path.cwd())
    sys.path.insert(0, working_folder)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(RANDOM_SEED)
            network = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            f"cannot call {arch}: {type(error).__name__}: {short_line(str(error))}",
            found=arch,
            wanted="a function without arguments",
            remedy="make sure that it can be imported and called without arguments",
        ) from error
    finally:
        with suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(working_folder)
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"{arch} returned a {type(network).__name__}",
            found=type(network).__name__,
            wanted="torch.nn.Module",
            remedy="let it return a torch.nn.Module",
        )
    return network

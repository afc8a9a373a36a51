"""Runs a network on one picture of the tile asked for, and says what it is, or what it is instead of one that fits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import ScriptNetwork
from sr_edge.models.checkpoints.bounds import first_line, shown
from sr_edge.models.probing.failures import TileMisfit, explained_failure
from sr_edge.models.probing.randomness import RandomOperators
from sr_edge.spec import DEFAULT_TILE, TileSpec

SCALES = (1, 2, 3, 4, 8, 16)
"""Ratios of output to input that are accepted, exact and the same in both directions."""

SEED = 0
EQUAL = 1e-4
"""Share of the largest output by which two runs may differ: order of summation, and nothing else."""


@dataclass(frozen=True)
class Probe:
    """What trying a network tells.

    Args:
        scale: ratio of output to input.
        tile: one that it takes.
        multiple_px: divides the sides of its tiles.
        minimum_px: the smallest side of a tile.
        square: whether tiles must be square.
        remarks: what its user should know.
    """

    scale: int
    tile: TileSpec
    multiple_px: int = 1
    minimum_px: int = 1
    square: bool = False
    remarks: tuple[str, ...] = ()


def probe_network(network: nn.Module, name: str, tile: TileSpec | None, scale: int | None = None) -> Probe:
    """Runs `network` twice on a picture of `tile` pixels.

    Args:
        network: takes RGB (1, 3, height, width) in [0, 1]; in eval mode.
        name: what messages call it.
        tile: what it is to be deployed with; None tries the usual one, and another where it does not take that.
        scale: what its user says; None to find it.

    Raises:
        UsageError: it takes more than a picture, gives something else than one picture, or has another scale.
        TileMisfit: it does not take this tile, but others.
        WeightsError: it fails on any picture, gives NaN, is random, or keeps something of the first picture.
    """
    try:
        return Probe(_scale_at(network, name, tile or DEFAULT_TILE, scale), tile or DEFAULT_TILE)
    except TileMisfit as misfit:
        if tile is not None:
            raise
        return Probe(_scale_at(network, name, misfit.fitting, scale), misfit.fitting, misfit.multiple_px)


def _scale_at(network: nn.Module, name: str, tile: TileSpec, scale: int | None) -> int:
    operators, fresh = RandomOperators(), _untouched_copy(network)
    generator = torch.Generator().manual_seed(SEED)
    picture, another = (torch.rand(1, 3, tile.height, tile.width, generator=generator) for _ in range(2))
    # Not in inference mode: tensors that a network keeps from this run could not be used afterwards.
    with torch.no_grad():
        try:
            with operators:
                first = network(picture)
            upscaled = _require_picture(first, name)
            ratio = _require_ratio(tuple(upscaled.shape), name, tile, scale)
            again = network(picture)
        except (UsageError, WeightsError):
            raise
        except Exception as error:  # whatever the network's code raises
            raise explained_failure(network, name, tile, _message(error)) from error
    _require_finite_and_deterministic(upscaled, again, name, operators)
    if fresh is not None and _differ(upscaled, _second_output(fresh, another, picture)):
        raise WeightsError(
            f"{name} keeps something of the first picture that it is given, or draws weights then, so that its output "
            "depends on what came before",
            wanted="an output that depends on its picture alone",
            remedy="compute it in every call, or store it in the checkpoint",
        )
    return ratio


def _untouched_copy(network: nn.Module) -> nn.Module | None:
    """A copy that has seen no picture; None where the network cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception:  # whatever an attribute raises that cannot be copied, such as a lock
        return None


def _second_output(network: nn.Module, first: Tensor, second: Tensor) -> object:
    """What a network makes of a picture after another one; None where that fails."""
    try:
        with torch.no_grad():
            network(first)
            return network(second)
    except Exception:  # whatever the network's code raises where it misses what it kept of its first picture
        return None


def _differ(first: Tensor, again: object) -> bool:
    tolerance = EQUAL * max(1.0, float(first.abs().max()))
    if not isinstance(again, Tensor) or again.shape != first.shape:
        return True
    return bool((again - first).abs().max() > tolerance)


def require_picture_only(network: nn.Module, name: str) -> None:
    """Raises UsageError where `forward` cannot be called with a picture alone."""
    needed = _required_arguments(network)[1:]
    if needed:
        raise UsageError(
            f"{name} takes {', '.join(needed)} beside the picture, as diffusion networks take a timestep",
            found=needed,
            wanted=[],
            remedy="give a network that upscales a picture in one run, from the picture alone",
        )


def _required_arguments(network: nn.Module) -> Sequence[str]:
    if isinstance(network, ScriptNetwork):
        arguments = network.script.forward.schema.arguments[1:]  # type: ignore[attr-defined]
        return [argument.name for argument in arguments if not argument.has_default_value()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(network.forward).parameters.values()
    required = [p for p in parameters if p.default is inspect.Parameter.empty]
    named = [p.name for p in required if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [p.name for p in required if p.kind in positional] + named


def _message(error: Exception) -> str:
    """The line that says something: for TorchScript the last one, behind its trace."""
    lines = str(error).strip().splitlines()
    is_script = len(lines) > 1 and "TorchScript interpreter" in lines[0]
    return shown(lines[-1]) if is_script else first_line(error)


def _require_picture(answer: object, name: str) -> Tensor:
    if not isinstance(answer, Tensor):
        raise UsageError(
            f"{name} returned a {type(answer).__name__}",
            found=type(answer).__name__,
            wanted="torch.Tensor",
            remedy="let it return one tensor, the picture",
        )
    shape = tuple(answer.shape)
    if answer.dim() != 4 or shape[0] != 1:
        resembled = ", as a classifier does" if answer.dim() == 2 else ""
        raise UsageError(
            f"{name} returned a tensor of shape {shape}{resembled}",
            found=shape,
            wanted=(1, 3, "height", "width"),
            remedy="let it return one picture of shape (1, 3, height, width)",
        )
    if shape[1] != 3:
        raise UsageError(
            f"{name} returned {shape[1]} channels for a picture of 3",
            found=shape[1],
            wanted=3,
            remedy="give a network from RGB to RGB",
        )
    if answer.dtype != torch.float32:
        raise UsageError(
            f"{name} returned {answer.dtype} for a picture of torch.float32",
            found=answer.dtype,
            wanted=torch.float32,
            remedy="take the conversion out of its forward",
        )
    return answer


def _require_ratio(shape: tuple[int, ...], name: str, tile: TileSpec, scale: int | None) -> int:
    height, width = shape[2:]
    ratio = height // tile.height
    if ratio not in SCALES or (height, width) != (ratio * tile.height, ratio * tile.width):
        raise UsageError(
            f"{name} turns {tile} pixels into {height}x{width}",
            found=(height, width),
            wanted=SCALES,
            remedy=f"give a network whose output is exactly {', '.join(map(str, SCALES))} times its input, the same in "
            "both directions",
        )
    if scale not in (None, ratio):
        raise UsageError(
            f"{name} turns {tile} pixels into {height}x{width}, which is x{ratio} and not x{scale}",
            found=scale,
            wanted=ratio,
            remedy=f"pass --scale {ratio}",
        )
    return ratio


def _require_finite_and_deterministic(first: Tensor, again: object, name: str, operators: RandomOperators) -> None:
    if not first.isfinite().all():
        raise WeightsError(
            f"{name} returned NaN or infinite values for a picture",
            wanted="finite values",
            remedy="check its weights and --input-range",
        )
    if _differ(first, again):
        raise WeightsError(
            f"{name} returned another picture in each run, also in eval mode: {operators.cause}",
            found=list(operators.names),
            wanted="the same output for the same picture",
            remedy=operators.remedy,
        )

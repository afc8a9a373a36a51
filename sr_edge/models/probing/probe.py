"""Runs a network on one image of the size of a tile: measures its scale, or reports why it cannot be deployed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints import ScriptNetwork
from sr_edge.models.checkpoints.bounds import first_line, short_line
from sr_edge.models.probing.failures import OtherChannels, UnsupportedTile, explain_failure
from sr_edge.models.probing.randomness import RandomOperators
from sr_edge.models.registry import count_parameters
from sr_edge.spec import CHANNELS, DEFAULT_TILE, RGB, ModelCard, TileSpec, require_channels

SCALES = (1, 2, 3, 4, 8, 16)
"""Accepted ratios of output to input size, which must be exact and the same for height and width."""

SEED = 0
RELATIVE_TOLERANCE = 1e-4
"""Allowed difference of two runs relative to the largest output, for another order of summation."""


@dataclass(frozen=True)
class Probe:
    """The properties of a network that probing has found.

    Args:
        scale: ratio of output to input size.
        tile: a tile that it supports.
        multiple_px: height and width of its tiles are multiples of this.
        minimum_px: the smallest height and width of a tile.
        square: whether tiles must be square.
        channels: number of channels of input and output.
        remarks: notes for the user.
    """

    scale: int
    tile: TileSpec
    multiple_px: int = 1
    minimum_px: int = 1
    square: bool = False
    channels: int = RGB
    remarks: tuple[str, ...] = ()

    def card(self, name: str, network: nn.Module, input_range: float) -> ModelCard:
        """The model card of the network that was run; where its weights come from is still to be added."""
        return ModelCard(
            name=name,
            scale=self.scale,
            parameters=count_parameters(network),
            multiple_px=self.multiple_px,
            minimum_px=self.minimum_px,
            square_tiles=self.square,
            input_channels=self.channels,
            output_channels=self.channels,
            input_range=input_range,
        )


def probe_network(
    network: nn.Module, name: str, tile: TileSpec | None, scale: int | None = None, channels: int | None = None
) -> Probe:
    """Runs a network twice on an image of the size of a tile.

    Args:
        network: takes (1, channels, height, width) in [0, 1]; in eval mode.
        name: what error messages call it.
        tile: the tile with which it is to be deployed; None tries the usual one, and another if that is unsupported.
        scale: the scale that the user states; None measures it.
        channels: the number of channels; None tries RGB first, then luma and RGB with alpha.

    Raises:
        UsageError: it takes more than an image, returns something other than one image with the same channels, or has
            another scale.
        UnsupportedTile: it does not support this tile, but others.
        WeightsError: it fails on every image, returns NaN, is random, or depends on earlier inputs.
    """
    if channels is None:
        try:
            return probe_network(network, name, tile, scale, RGB)
        except OtherChannels as mismatch:
            if mismatch.channels not in CHANNELS:
                raise
            channels = mismatch.channels
    try:
        ratio, multiple_px, run_on = _scale_at(network, name, tile or DEFAULT_TILE, scale, channels), 1, tile
    except UnsupportedTile as mismatch:
        if tile is not None:
            raise
        run_on, multiple_px = mismatch.supported_tile, mismatch.multiple_px
        ratio = _scale_at(network, name, run_on, scale, channels)
    return Probe(ratio, run_on or DEFAULT_TILE, multiple_px, channels=channels)


def _scale_at(network: nn.Module, name: str, tile: TileSpec, scale: int | None, channels: int) -> int:
    operators, fresh_copy = RandomOperators(), _fresh_copy(network)
    generator = torch.Generator().manual_seed(SEED)
    image, other_image = (torch.rand(1, channels, tile.height, tile.width, generator=generator) for _ in range(2))
    # Not in inference mode, since a network may store tensors that are used outside of that mode later.
    with torch.no_grad():
        try:
            with operators:
                first = network(image)
            upscaled = _require_image(first, name, channels)
            ratio = _require_ratio(tuple(upscaled.shape), name, tile, scale)
            again = network(image)
        except (UsageError, WeightsError):
            raise
        except Exception as error:  # the network's code may raise anything
            raise explain_failure(network, name, tile, _message(error), channels=channels) from error
    _require_finite_and_deterministic(upscaled, again, name, operators)
    if fresh_copy is not None and _differ(upscaled, _second_output(fresh_copy, other_image, image)):
        raise WeightsError(
            f"{name} stores values computed from its first input, or creates weights then, so its output depends "
            "on earlier inputs",
            wanted="an output that depends on the current image alone",
            remedy="compute it in every call, or store it in the checkpoint",
        )
    return ratio


def _fresh_copy(network: nn.Module) -> nn.Module | None:
    """A copy of a network that has not been run yet; None if the network cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception:  # an attribute that cannot be copied, such as a lock, may raise anything
        return None


def _second_output(network: nn.Module, first: Tensor, second: Tensor) -> object:
    """The output for the second of two images; None if the network fails."""
    try:
        with torch.no_grad():
            network(first)
            return network(second)
    except Exception:  # the network's code may raise anything
        return None


def _differ(first: Tensor, again: object) -> bool:
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(first.abs().max()))
    if not isinstance(again, Tensor) or again.shape != first.shape:
        return True
    return bool((again - first).abs().max() > tolerance)


def require_image_only(network: nn.Module, name: str) -> None:
    """Raises UsageError where `forward` cannot be called with an image alone."""
    needed = _required_arguments(network)[1:]
    if needed:
        raise UsageError(
            f"{name} takes {', '.join(needed)} beside the image, as diffusion networks take a timestep",
            found=needed,
            wanted=[],
            remedy="give a network that upscales an image in one run, from the image alone",
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
    """The line with the cause of an exception; for TorchScript the last one, after the stack trace."""
    lines = str(error).strip().splitlines()
    is_script = len(lines) > 1 and "TorchScript interpreter" in lines[0]
    return short_line(lines[-1]) if is_script else first_line(error)


def _require_image(output: object, name: str, channels: int) -> Tensor:
    if not isinstance(output, Tensor):
        raise UsageError(
            f"{name} returned a {type(output).__name__}",
            found=type(output).__name__,
            wanted="torch.Tensor",
            remedy="let it return one tensor, the image",
        )
    shape = tuple(output.shape)
    if output.dim() != 4 or shape[0] != 1:
        resembled = ", as a classifier does" if output.dim() == 2 else ""
        raise UsageError(
            f"{name} returned a tensor of shape {shape}{resembled}",
            found=shape,
            wanted=(1, channels, "height", "width"),
            remedy=f"let it return one image of shape (1, {channels}, height, width)",
        )
    require_channels(name, channels, shape[1])
    if output.dtype != torch.float32:
        raise UsageError(
            f"{name} returned {output.dtype} for an image of torch.float32",
            found=output.dtype,
            wanted=torch.float32,
            remedy="take the conversion out of its forward",
        )
    return output


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
            f"{name} returned NaN or infinite values for an image",
            wanted="finite values",
            remedy="check its weights and --input-range",
        )
    if _differ(first, again):
        raise WeightsError(
            f"{name} returned a different image in each run, even in eval mode: {operators.cause}",
            found=list(operators.names),
            wanted="the same output for the same image",
            remedy=operators.remedy,
        )

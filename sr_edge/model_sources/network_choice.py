"""What a user names as a network, with the options that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class NetworkChoice:
    """A MODEL argument with the options that belong to it.

    Attributes:
        model: a registered name, the path of a checkpoint or ONNX file, or None.
        scale: magnification; None detects it.
        weights: a checkpoint for a registered name or for `arch`, or the model itself if `model` is None.
        random_weights: use seeded random weights, for latency measurements.
        arch: "package.module:factory" that builds a network.
        input_range: largest value of the network's input, 1 or 255; None detects that of an ONNX file, and is 1 for
            others.
        blend: checkpoints to average with the weights, each as FILE=SHARE.
        bake: controls to make constant, with their values.
        channel_order: "rgb" or "bgr", the order in which an ONNX file takes its channels.
    """

    model: str | None
    scale: int | None = None
    weights: Path | None = None
    random_weights: bool = False
    arch: str | None = None
    input_range: float | None = None
    blend: tuple[str, ...] = ()
    bake: Mapping[str, float] = field(default_factory=dict)
    channel_order: str = "rgb"

    @property
    def shown_name(self) -> str:
        """The network as messages name it: the model, the function, or the file of weights."""
        return self.model or self.arch or str(self.weights or "the network")

    def torch_options(self) -> tuple[str, ...]:
        """The options given that apply to PyTorch networks only."""
        given = {
            "--weights": self.weights is not None,
            "--random-weights": self.random_weights,
            "--arch": self.arch is not None,
            "--blend": bool(self.blend),
            "--bake": bool(self.bake),
        }
        return tuple(option for option, is_given in given.items() if is_given)

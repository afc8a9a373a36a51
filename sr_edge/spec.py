"""Value objects that all stages share: frozen dataclasses and enums, validated on construction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import TypeVar

from sr_edge.errors import TileError, UnknownNameError, UsageError
from sr_edge.reuse_table import ReuseTable

StageProgress = Callable[[str, int, int], None]
"""Reports the progress of a long job: called with (stage, steps done, number of steps)."""

OnEvent = Callable[[str], None]
"""Receives events that a person should see, each as a sentence."""


Choice = TypeVar("Choice", bound=Enum)


def member_of(choices: type[Choice], value: object, name: str) -> Choice:
    """The member of an enum that `value` is or names; raises UnknownNameError, which has the choices, for any other.

    Args:
        choices: The enum, for example Precision.
        value: A member, or its value as text.
        name: What is chosen, for the message.
    """
    try:
        return choices(value)
    except ValueError:
        raise UnknownNameError(name, str(value), [str(member.value) for member in choices]) from None


def take_names(instance: object, **choices: type[Enum]) -> None:
    """Replaces texts in attributes of a frozen dataclass by the members that they name; None stays."""
    for name, members in choices.items():
        value = getattr(instance, name)
        if value is not None:
            object.__setattr__(instance, name, member_of(members, value, name.replace("_", " ")))


class Precision(str, Enum):
    """Precision of a graph's convolutions and matrix multiplications."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"

    def __str__(self) -> str:
        return self.value


class FrameFormat(str, Enum):
    """Format of a graph's input and output: float NCHW in [0, 1], uint8 NHWC, or NV12 input with uint8 NHWC output."""

    FLOAT_NCHW = "float"
    UINT8_NHWC = "uint8"
    NV12 = "nv12"

    def __str__(self) -> str:
        return self.value


class ActivationType(str, Enum):
    """How INT8 activations are written: as INT8 with zero point 0, or the same values as UINT8 with zero point 128."""

    INT8 = "int8"
    UINT8 = "uint8"

    def __str__(self) -> str:
        return self.value


class PassChoice(str, Enum):
    """Which of the passes that make graphs faster are applied (`sr_edge.export.passes.speed_passes`)."""

    NONE = "none"
    """The graph as it was simplified."""

    STRUCTURE = "structure"
    """The passes that are a gain on every target, because the graph has fewer operators and the same arithmetic."""

    MEASURED = "measured"
    """Those, and for each runtime the passes that a measurement on this machine showed to be faster in it."""

    ALL = "all"
    """All passes, without a measurement."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TileSpec:
    """Height and width, in low-resolution pixels, of the fixed input shape of a deployed graph.

    Attributes:
        height: Height.
        width: Width.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise TileError(
                f"a tile of {self.height}x{self.width} pixels is empty",
                found=(self.height, self.width),
                wanted="at least 1x1",
                remedy="pass at least 1x1, for example --tile 96x96",
            )

    @classmethod
    def of(cls, tile: TileSpec | str) -> TileSpec:
        """A tile as programs give it: itself, or the text that `parse` takes."""
        return tile if isinstance(tile, TileSpec) else cls.parse(str(tile))

    @classmethod
    def parse(cls, text: str) -> TileSpec:
        """Parses HEIGHTxWIDTH ("96x96") or the edge of a square ("96"); raises TileError for anything else."""
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
        if match is None:
            raise TileError(
                f"cannot read {text!r} as the size of a tile",
                found=text,
                wanted="HEIGHTxWIDTH",
                remedy="write HEIGHTxWIDTH in pixels, for example 96x96",
            )
        height = int(match[1])
        return cls(height, int(match[2] or height))

    def require_multiple_of(self, multiple: int) -> None:
        """Raises TileError, which names the nearest valid tiles, unless both edges are multiples of `multiple`."""
        if self.height % multiple == 0 and self.width % multiple == 0:
            return
        smaller, larger = (
            "x".join(str(max(multiple, step * multiple)) for step in steps)
            for steps in (
                (self.height // multiple, self.width // multiple),
                (-(-self.height // multiple), -(-self.width // multiple)),
            )
        )
        choices = smaller if smaller == larger else f"{smaller} or {larger}"
        raise TileError(
            f"height and width of the tile {self} must be multiples of {multiple}, the window size of the network",
            found=self,
            wanted=multiple,
            remedy=f"pass for example --tile {choices}",
        )

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


CHANNEL_NAMES = {1: "luma", 3: "RGB", 4: "RGB with alpha"}
"""What a network's channels are, by their number. Input and output have the same number of channels."""

CHANNELS = tuple(CHANNEL_NAMES)
RGB = 3
"""Number of channels that is assumed first, and for graphs that do not state it."""

NETWORKS_WANTED = "give a network whose input and output both have 1 (luma), 3 (RGB) or 4 channels (RGB with alpha)"
"""The remedy of errors about networks with other channels."""

DEFAULT_TILE = TileSpec(96, 96)
"""Tile of a network for which no other is requested."""


@dataclass(frozen=True)
class Control:
    """A scalar that the user sets at run time: the input `name` of network and graphs, float32 of shape [1]."""

    name: str
    default: float
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UsageError(
                f"{self.name!r} is not a valid name for a control",
                found=self.name,
                wanted="an identifier",
                remedy="use letters, digits and underscores, for example 'alpha'",
            )
        self.checked(self.default)

    def checked(self, value: object) -> float:
        """`value` as a float; raises UsageError unless it is a number within the range."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise self._error(value, f"is {value!r}, which is not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not self.minimum <= number <= self.maximum:
            raise self._error(value, f"is {number:g}, which is out of range")
        return number

    def _error(self, value: object, reason: str) -> UsageError:
        wanted = (self.minimum, self.maximum)
        return UsageError(
            f"control {self.name} {reason}", found=value, wanted=wanted, remedy=f"give a number {self._range}"
        )

    def __str__(self) -> str:
        return f"{self.name} {self._range} ({self.default:g})"

    @property
    def _range(self) -> str:
        return f"from {self.minimum:g} to {self.maximum:g}"


@dataclass(frozen=True)
class TileNeeds:
    """How tiling changes a network's output, measured on one picture, in low-resolution pixels.

    For reach and halo, one pixel was set to black or white while the statistics of the network were kept constant. The
    three PSNRs compare the tiled output with that of the whole picture (all channels, at most 99 dB).

    Attributes:
        measured_on: Size of the picture.
        tile: Tile size of the PSNRs.
        overlap_px: Overlap of the tiles.
        reach_px: Distance up to which any output changed; None if up to the edge of the picture.
        halo_px: Distance up to which an output changed by 1/255 or more; None if up to the edge of the picture.
        statistics_change: Change of the right quarter, in the range 0-1, that global statistics alone cause when the
            left half is inverted.
        own_db: PSNR if each tile has statistics of its own.
        reference_db: PSNR with the statistics of the downscaled whole picture; None without global statistics.
        synchronous_db: PSNR with statistics that all tiles share; None without global statistics.
    """

    measured_on: TileSpec
    tile: TileSpec
    overlap_px: int
    reach_px: int | None
    halo_px: int | None
    statistics_change: float
    own_db: float
    reference_db: float | None = None
    synchronous_db: float | None = None


class Tiling(str, Enum):
    """Whether a network may run in tiles: yes, with a visible loss, or no, because it tiles by itself."""

    SUPPORTED = "supported"
    DISCOURAGED = "discouraged"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value


def count_of_channels(channels: int) -> str:
    """The number with its noun: "1 channel", "3 channels"."""
    return f"{channels} channel{'' if channels == 1 else 's'}"


def require_channels(name: str, input_channels: int, output_channels: int) -> None:
    """Raises UsageError unless a network has the same number of input and output channels, one of CHANNELS."""
    if input_channels not in CHANNELS or output_channels != input_channels:
        raise UsageError(
            f"{name} is a network from {input_channels} to {output_channels} channels",
            found=(input_channels, output_channels),
            wanted=tuple((channels, channels) for channels in CHANNELS),
            remedy=NETWORKS_WANTED,
        )


@dataclass(frozen=True)
class ModelCard:
    """Description of a deployed network and of its requirements.

    Attributes:
        name: Name of the model.
        scale: Magnification.
        parameters: Number of parameters.
        multiple_px: Height and width of a tile must be multiples of this.
        overlap_px: Overlap of tiles, in low-resolution pixels, at which seams are invisible.
        global_statistics: Whether an output pixel depends on the whole input; if so, tiling changes the result.
        input_range: Largest input value that the network expects, 1 or 255.
        random_weights: Whether the weights are random, for latency measurements only.
        weights_source: Origin of the weights.
        weights_sha256: Digest of the weights file.
        licence: Licence of the weights.
        static: Whether the network has a form with constant shapes.
        forms: Choices made during export, by layer.
        controls: Scalars that the user sets at run time.
        baked: Controls that the export replaced by constants, with their values.
        tile_needs: How tiling changes the output; None if it was not measured.
        family: Architecture family of a user's checkpoint. This and the fields below are for such checkpoints.
        hyper_parameters: Hyper-parameters derived from the shapes of the weights.
        purpose: Task that the network was trained for.
        architecture_licence: Licence of the code of the architecture.
        input_channels: Number of input channels, one of CHANNELS: 1 for luma, 3 for RGB, 4 for RGB with alpha.
        output_channels: Number of output channels, which is the same.
        minimum_px: Smallest height and width of a tile.
        square_tiles: Whether tiles must be square.
        tiling: Whether the network may run in tiles.
        reuse_table: What it costs to reuse the results of tiles that changed a little; None if it was not measured.
    """

    name: str
    scale: int
    parameters: int
    multiple_px: int = 1
    overlap_px: int = 8
    global_statistics: bool = False
    input_range: float = 1.0
    random_weights: bool = False
    weights_source: str = ""
    weights_sha256: str = ""
    licence: str = ""
    static: bool = True
    forms: Mapping[str, str] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    baked: Mapping[str, float] = field(default_factory=dict)
    tile_needs: TileNeeds | None = None
    family: str = ""
    hyper_parameters: Mapping[str, str] = field(default_factory=dict)
    purpose: str = ""
    architecture_licence: str = ""
    input_channels: int = RGB
    output_channels: int = RGB
    minimum_px: int = 1
    square_tiles: bool = False
    tiling: Tiling = Tiling.SUPPORTED
    reuse_table: ReuseTable | None = None

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(
                f"the scale must be at least 1, but is {self.scale}",
                found=self.scale,
                wanted=(1, 2, 3, 4, 8, 16),
                remedy="use 1, 2, 3, 4, 8 or 16",
            )
        require_channels(self.name, self.input_channels, self.output_channels)

    @property
    def channels(self) -> int:
        """The number of channels of input and output."""
        return self.input_channels

    @property
    def default_tile(self) -> TileSpec:
        """DEFAULT_TILE, or the next larger square tile that the network accepts."""
        edge_px = max(DEFAULT_TILE.height, self.minimum_px)
        edge_px = -(-edge_px // self.multiple_px) * self.multiple_px
        return TileSpec(edge_px, edge_px)

    def require_tile(self, tile: TileSpec) -> None:
        """Raises TileError unless the network accepts this tile; the remedy is a valid one."""
        tile.require_multiple_of(self.multiple_px)
        if min(tile.height, tile.width) < self.minimum_px:
            raise TileError(
                f"the tile {tile} is too small for {self.name}, which needs at least {self.minimum_px} pixels in "
                "height and width",
                found=tile,
                wanted=self.minimum_px,
                remedy=f"pass for example --tile {self.default_tile}",
            )
        if self.square_tiles and tile.height != tile.width:
            square = TileSpec(max(tile.height, tile.width), max(tile.height, tile.width))
            raise TileError(
                f"the tile {tile} is not square, which {self.name} requires",
                found=tile,
                wanted=square,
                remedy=f"pass --tile {square}",
            )

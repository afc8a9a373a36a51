"""The plan of a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.calibration.config import require_known_method
from sr_edge.calibration.ranges.search import SEARCH
from sr_edge.calibration.selection.gate import Budget
from sr_edge.deploy.frame_tiles import FloatTileMeter, FrameSize, MakeTileMeter
from sr_edge.deploy.pass_timing import Decide, decide
from sr_edge.errors import TileError, UsageError
from sr_edge.export.checks.targets import require_known_targets
from sr_edge.export.graph.metadata import Form
from sr_edge.export.passes.speed_passes import SPEED_PASSES, SpeedPass
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import require_even_overlap, require_nv12_tile
from sr_edge.runtimes import find_entry
from sr_edge.spec import ModelCard, PassChoice, Precision, TileSpec, member_of, take_names

TIMED_RUNTIMES = ("openvino", "onnxruntime")
"""The runtimes in which passes are timed: they open a graph within seconds, whereas engines of others take minutes."""


@dataclass(frozen=True)
class DeployPlan:
    """What a deployment builds and how it measures the result.

    Attributes:
        tile: The input size of the graphs.
        runtimes: The runtimes in which the bundle is tested and timed. With a single one that reports layer times,
            calibration times the layers, too; the times of one runtime are not valid for several.
        precisions: The precisions to build, each of which is measured in every runtime; all of them by default.
        method: The calibration method.
        include: Patterns of layers that must become INT8.
        exclude: Patterns of layers that stay in float.
        max_drop_db: The loss of quality that INT8 may cost, measured on held-out patches of the calibration images and
            never on `hr`, which remains an independent test.
        threads: CPU threads of the runtimes; None leaves the default.
        rounds: Rounds in which all variants are timed one after the other.
        with_memory: Whether memory is measured.
        hr: A folder of high-resolution originals on which quality is measured.
        lr: Their low-resolution versions; None downscales the originals.
        with_tile_needs: Whether the effect of tiles of this size on an image is measured and recorded in the model card
            (`sr_edge.models.tiles.tile_safety`).
        with_reuse_table: Whether the loss of PSNR by the reuse of changed tiles is measured (`sr_edge.reuse_table`).
        form: The form of the graphs; None takes the static form or, where there is none, the traced one.
        targets: Names of `sr_edge.export.TARGET_NAMES`; each must accept every graph that is intended for it.
        passes: The passes that make the graphs faster; MEASURED times them in the runtimes that are quick to open.
        pass_budget_s: Seconds that timing the passes may take in all.
        speed_passes: All passes.
        decide_passes: Times the graphs that a runtime may run and chooses one.
        frames: Sizes of frames, WIDTHxHEIGHT, for which the bundle also gets a tile that fits, with its own graphs but
            the weights and the calibration of `tile`.
        tile_meter: Makes the `TileMeter` that exports and measures the tiles that fit frames.
        nv12_colour: Matrix and range of the frames of additional graphs with NV12 input; None for a bundle without such
            graphs.

    Raises:
        UsageError: A size of frames cannot be read, a target is unknown, fp32 is not among the precisions, or as
            `require_quantization_options`.
    """

    tile: TileSpec
    runtimes: Sequence[str]
    precisions: Sequence[Precision] = tuple(Precision)
    method: str = SEARCH
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    max_drop_db: float = 0.05
    threads: int | None = None
    rounds: int = 20
    with_memory: bool = True
    hr: Path | None = None
    lr: Path | None = None
    with_tile_needs: bool = True
    with_reuse_table: bool = True
    form: Form | None = None
    targets: Sequence[str] = ()
    passes: PassChoice = PassChoice.MEASURED
    pass_budget_s: float = 20.0
    speed_passes: Sequence[SpeedPass] = SPEED_PASSES
    decide_passes: Decide = decide
    frames: Sequence[FrameSize | str] = ()
    tile_meter: MakeTileMeter = FloatTileMeter
    nv12_colour: Nv12Colour | None = None

    def __post_init__(self) -> None:
        take_names(self, form=Form, passes=PassChoice, nv12_colour=Nv12Colour)
        precisions = tuple(member_of(Precision, precision, "precision") for precision in self.precisions)
        frames = tuple(map(FrameSize.of, self.frames))
        for name, value in (("tile", TileSpec.of(self.tile)), ("precisions", precisions), ("frames", frames)):
            object.__setattr__(self, name, value)
        for runtime in self.runtimes:
            find_entry(runtime)
        require_known_targets(self.targets)
        require_quantization_options(self.precisions, self.method, self.include, self.exclude, self.max_drop_db)
        if Precision.FP32 not in self.precisions:
            raise UsageError(
                "the precisions of a bundle must include fp32, from which the others are made",
                found=tuple(map(str, self.precisions)),
                wanted=str(Precision.FP32),
                remedy="add fp32 to the precisions",
            )

    @property
    def frame_sizes(self) -> tuple[FrameSize, ...]:
        """The sizes of frames for which the bundle gets tiles."""
        return tuple(map(FrameSize.of, self.frames))


def require_quantization_options(
    precisions: Sequence[Precision], method: str, include: Sequence[str], exclude: Sequence[str], max_drop_db: float
) -> None:
    """Checks the options of the quantization before a network is loaded.

    Raises:
        UsageError: The method is unknown, the loss is negative, or an option was given without INT8, where it has no
            effect.
    """
    require_known_method(method)
    Budget(max_drop_db)  # refuses a negative loss
    options = {"method": method != SEARCH, "include": bool(include), "exclude": bool(exclude)}
    given = tuple(name for name, is_given in options.items() if is_given)
    if given and Precision.INT8 not in precisions:
        raise UsageError(
            f"the options of the quantization ({', '.join(given)}) have no effect without INT8",
            found=given,
            wanted=str(Precision.INT8),
            remedy="add int8 to the precisions, or leave them out",
        )


def require_timed_runtime(runtimes: Sequence[str]) -> None:
    """Checks that passes can be timed in one of the runtimes.

    Raises:
        UsageError: None of them is quick to open.
    """
    if not set(runtimes) & set(TIMED_RUNTIMES):
        raise UsageError(
            f"passes are timed in {' and '.join(TIMED_RUNTIMES)} only, but the runtimes are {', '.join(runtimes)}",
            found=tuple(runtimes),
            wanted=TIMED_RUNTIMES,
            remedy=f"add one of them to the runtimes, or pass --passes {PassChoice.STRUCTURE}",
        )


def require_fitting_tile(tile: TileSpec, card: ModelCard) -> None:
    """Checks that the network takes the tile and that the tile is larger than the overlap of its neighbours.

    Raises:
        TileError: It does not or is not.
    """
    card.require_tile(tile)
    if min(tile.height, tile.width) <= card.overlap_px:
        raise TileError(
            f"tile {tile} is not larger than the {card.overlap_px} pixels by which tiles of {card.name} overlap",
            found=min(tile.height, tile.width),
            wanted=card.overlap_px + 1,
            remedy=f"choose a tile of more than {card.overlap_px} pixels in height and width, preferably "
            f"{4 * card.overlap_px}",
        )


def require_fitting_nv12(plan: DeployPlan, card: ModelCard) -> None:
    """Checks that graphs with NV12 input, if the plan has any, can be made of the network and its tile.

    Raises:
        UsageError: The network does not take RGB.
        TileError: The tile, or the overlap of tiles, is odd.
    """
    if plan.nv12_colour is None:
        return
    require_nv12_tile(plan.tile, card.channels)
    require_even_overlap(card.overlap_px)

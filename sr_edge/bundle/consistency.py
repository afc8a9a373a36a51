"""Checks that the values of a manifest are possible and agree with each other, whoever wrote them.

The values of a manifest decide sizes of buffers, tiles and divisions later on. A manifest that was edited or damaged is
refused here, where the reason is known, and not by a failure in the middle of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from sr_edge.bundle.entries import Artifact, GoldenFrame
from sr_edge.errors import BundleError, SrEdgeError
from sr_edge.printable import one_line, printable
from sr_edge.spec import Control, ModelCard, TileSpec, count_of_channels

MAX_SCALE = 16
MAX_TILE_PX = 16_384
_MAX_PSNR_DB = 200.0
_REMEDY = "deploy again, or copy the bundle again"


def require_consistent(
    card: ModelCard, tile: TileSpec, artifacts: Sequence[Artifact], golden: Sequence[GoldenFrame]
) -> None:
    """Raises BundleError for the first value of a manifest that is out of range or contradicts another one."""
    _require_card(card)
    _require_tile(tile, card)
    for artifact in artifacts:
        wanted = (1, card.channels, tile.height, tile.width)
        if artifact.shape != wanted:
            raise _inconsistent(
                f"the input of {artifact.file} has the shape {artifact.shape}, but the tile {tile} and the "
                f"{count_of_channels(card.channels)} of the network require {wanted}",
                artifact.shape,
                wanted,
            )
    _require_files_for_all(artifacts)
    for frame in golden:
        _require_golden(frame, card)


def require_sizes(sizes: Mapping[str, int], files: Collection[str]) -> None:
    """Raises BundleError unless `sizes` has the size in bytes of exactly the files that a manifest lists."""
    listed, sized = set(files), set(sizes)
    if listed != sized:
        raise _inconsistent(
            f"the sizes in the manifest are not those of the files that it lists: {', '.join(sorted(listed ^ sized))}",
            sorted(sized),
            sorted(listed),
        )
    for file, size_bytes in sizes.items():
        _require_range(f"the size of {file}", size_bytes, 0, 1 << 62)


def require_printable(value: object, where: str) -> None:
    """Raises BundleError for text that acts on a terminal or has several lines, which could pass for other fields."""
    if isinstance(value, str) and (printable(value) != value or "\n" in value):
        raise _inconsistent(f"{where} has characters that cannot be printed", value, "text on one line")
    for name, item in _parts(value):
        require_printable(str(name), f"a name in {where}")
        require_printable(item, f"{where}.{name}")


def printable_values(value: Any) -> Any:
    """A copy of a JSON document whose texts are each on one line, so that `require_printable` accepts them."""
    if isinstance(value, dict):
        return {one_line(name): printable_values(item) for name, item in value.items()}
    if isinstance(value, list):
        return [printable_values(item) for item in value]
    return one_line(value) if isinstance(value, str) else value


def require_finite_numbers(value: object, where: str) -> None:
    """Raises BundleError for NaN and infinity, which JSON readers accept, in any field below `value`."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _inconsistent(f"{where} is {value}, which is not a finite number", value, "a finite number")
    for name, item in _parts(value):
        require_finite_numbers(item, f"{where}.{name}")


def _parts(value: object) -> Iterator[tuple[object, object]]:
    if is_dataclass(value):
        yield from ((item.name, getattr(value, item.name)) for item in fields(value))
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple):
        yield from enumerate(value)


def _require_card(card: ModelCard) -> None:
    limits = {
        "scale": (1, MAX_SCALE),
        "parameters": (0, 1 << 48),
        "multiple_px": (1, MAX_TILE_PX),
        "overlap_px": (0, MAX_TILE_PX),
        "minimum_px": (1, MAX_TILE_PX),
    }
    for name, (minimum, maximum) in limits.items():
        _require_range(f"card.{name}", getattr(card, name), minimum, maximum)
    if not 0 < card.input_range <= 65_535:
        raise _inconsistent(
            f"card.input_range is {card.input_range:g}", card.input_range, "above 0 and at most 65535, usually 1 or 255"
        )
    names = [control.name for control in card.controls] + list(card.baked)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise _inconsistent(f"the card has the control {repeated[0]} more than once", repeated, "each control once")


def _require_tile(tile: TileSpec, card: ModelCard) -> None:
    _require_range("tile.height", tile.height, 1, MAX_TILE_PX)
    _require_range("tile.width", tile.width, 1, MAX_TILE_PX)
    try:
        card.require_tile(tile)
    except SrEdgeError as error:
        raise _inconsistent(f"the manifest contradicts itself: {error.problem}", error.found, error.wanted) from error


def _require_files_for_all(artifacts: Sequence[Artifact]) -> None:
    """Raises BundleError for a file of certain runtimes without one for all, as other runtimes would have none."""
    for_all = [item.for_all_runtimes() for item in artifacts if not item.runtimes]
    for item in artifacts:
        if item.runtimes and item.for_all_runtimes() not in for_all:
            raise _inconsistent(
                f"{item.file} is for {', '.join(item.runtimes)} only, and no file of its kind is for all runtimes",
                item.runtimes,
                "a file of the same precision and frames for all runtimes",
            )


def _require_golden(golden: GoldenFrame, card: ModelCard) -> None:
    _require_range(f"min_psnr_db of {golden.output}", golden.min_psnr_db, 0, _MAX_PSNR_DB)
    controls: dict[str, Control] = {control.name: control for control in card.controls}
    for name, value in golden.controls.items():
        if name not in controls:
            raise _inconsistent(
                f"the golden frame {golden.output} sets {name!r}, which is not a control of the network",
                name,
                tuple(controls),
            )
        try:
            controls[name].checked(value)
        except SrEdgeError as error:
            raise _inconsistent(f"{golden.output}: {error.problem}", error.found, error.wanted) from error


def _require_range(name: str, value: float, minimum: float, maximum: float) -> None:
    if not minimum <= value <= maximum:
        shown = str(value)[:20]  # JSON has integers of any length
        raise _inconsistent(f"{name} is {shown} instead of {minimum} to {maximum}", value, (minimum, maximum))


def _inconsistent(problem: str, found: object, wanted: object) -> BundleError:
    return BundleError(problem, found=found, wanted=wanted, remedy=_REMEDY)

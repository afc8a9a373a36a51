"""Reuse of tiles that changed a little: limits of a change, refreshes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import UsageError
from sr_edge.reuse_table import BLOCK_PX, ChangeLimits, ReuseLoss, ReuseTable
from sr_edge.runtimes.session import Session
from sr_edge.tiling import plan_tiles, upscale_frame
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import TileReuse, tile_reuse
from sr_edge.upscaler.reuse_options import ReuseOptions
from sr_edge.upscaler.tile_change import block_change, is_within, level_change
from sr_edge.upscaler.tiled_frame import TiledFrame
from tests.expected_errors import raises
from tests.upscaler.test_reuse import SlottedSession
from tests.upscaler.test_upscaler import SCALE, TILE

Array = npt.NDArray[Any]

TABLE = ReuseTable(
    (
        ReuseLoss(0.5, 0.01, 0.02, 0.005, 1.0),
        ReuseLoss(2.0, 0.04, 0.12, 0.08, 4.0),
        ReuseLoss(4.0, 0.02, 0.60, 0.30, 8.0),
    ),
    30.0,
    4,
)
"""A bound of 0.02 dB allows a block change of 2, one of 0.06 dB allows 3."""

BOUND = ReuseOptions("bound", 0.06, refresh_s=8.0)


def picture(seed: int = 0, dtype: npt.DTypeLike = np.uint8) -> Array:
    random = np.random.default_rng(seed)
    if np.dtype(dtype) == np.float32:
        return random.uniform(0.2, 0.8, (40, 60, 3)).astype(np.float32)
    step = 257 if np.dtype(dtype) == np.uint16 else 1
    return (random.integers(40, 200, (40, 60, 3)) * step).astype(dtype)


def bounded() -> TileReuse:
    reuse = tile_reuse(BOUND, TABLE)
    assert reuse is not None
    return reuse


class Frames:
    """Upscales frames by repeating pixels, with a store of tiles."""

    def __init__(self, reuse: TileReuse) -> None:
        self.reuse = reuse
        self.computed: list[int] = []

    def upscale(self, frame: Array, time_s: float = 0.0) -> Array:
        """The upscaled frame; the number of tiles that were computed is added to `computed`."""
        count = 0

        def run(tile: Array) -> Array:
            nonlocal count
            count += 1
            return tile.repeat(SCALE, axis=0).repeat(SCALE, axis=1)

        outputs: dict[int, Array] = {}

        def submit(tile: Array) -> int:
            outputs[len(outputs)] = run(tile)
            return len(outputs) - 1

        plan = plan_tiles(*frame.shape[:2], TILE, 4)
        tiles = self.reuse.frame(submit, outputs.__getitem__, TiledFrame(frame, plan, scale=SCALE, time_s=time_s))
        upscaled = upscale_frame(
            frame, lambda tile: tiles.result(tiles.submit(tile)), tile=TILE, scale=SCALE, overlap_px=4
        )
        self.computed.append(count)
        return upscaled


def steady_mean_db(changes: list[float], losses_db: list[float], limit: float) -> float:
    """The mean loss over changes from 0 to a limit, by many samples."""
    return float(np.mean(np.interp(np.linspace(0, limit, 10_001), [0.0, *changes], [0.0, *losses_db])))


@pytest.mark.parametrize("seed", range(40))
def test_limits_keep_the_bound(seed: int) -> None:
    """For any table: the mean over all changes up to the limit, and the worst tile at each of the rows within it."""
    random = np.random.default_rng(seed)
    changes, (means, worst, levels) = [0.5, 2.0, 4.0], random.uniform(0, 1, (3, 3)).tolist()
    table = ReuseTable(tuple(map(ReuseLoss, changes, means, worst, levels, [1.0] * 3)), 30.0, 1)
    bound_db = random.uniform(*table.range_db)
    limits = table.limits(bound_db)
    assert steady_mean_db(changes, means, limits.block) <= bound_db + 1e-3
    assert steady_mean_db(changes, levels, limits.level) <= bound_db + 1e-3
    assert all(loss <= 6 * bound_db for loss, change in zip(worst, changes, strict=True) if change <= limits.block)
    assert limits.block > 0


def test_limits_between_two_rows() -> None:
    """The worst tile decides between the block changes of 2 and 4, the mean between the same level changes."""
    limits = TABLE.limits(0.06)
    assert limits.block == pytest.approx(2 + 2 * (0.36 - 0.12) / (0.60 - 0.12), abs=0.01)
    assert steady_mean_db([0.5, 2.0, 4.0], [0.005, 0.08, 0.30], limits.level) == pytest.approx(0.06, abs=1e-3)
    assert TABLE.limits(0.0999).block == pytest.approx(4.0, abs=0.01)


def test_a_loss_that_decreases_again_does_not_allow_a_larger_change() -> None:
    rows = (ReuseLoss(1.0, 0.2, 0.2, 0.0, 1.0), ReuseLoss(2.0, 0.3, 0.3, 0.0, 1.0), ReuseLoss(3.0, 0.0, 0.0, 0.0, 1.0))
    assert ReuseTable(rows, 30.0, 1).limits(0.15).block < 2.0


@pytest.mark.parametrize("bound_db", [0.004, 0.11, 5.0])
def test_a_bound_that_the_table_does_not_give_is_refused(bound_db: float) -> None:
    with raises(UsageError, found=bound_db, wanted=(pytest.approx(0.005), pytest.approx(0.1))):
        TABLE.limits(bound_db)


def test_a_network_without_a_table_is_refused() -> None:
    with raises(UsageError, found=0.05) as caught:
        Upscaler(cast(Session, SlottedSession()), reuse=0.05)
    assert "deploy" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (replace(TABLE.losses[0], change=0.0),),
        (TABLE.losses[1], TABLE.losses[0]),
        (replace(TABLE.losses[0], mean_db=float("nan")),),
        (replace(TABLE.losses[0], worst_db=-1.0),),
    ],
)
def test_tables_without_losses_at_ascending_changes_are_refused(rows: tuple[ReuseLoss, ...]) -> None:
    with raises(UsageError):
        ReuseTable(rows, 30.0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(16, 24), (13, 21), (8, 8), (3, 5), (9, 64)])
def test_changes_are_those_of_their_definition(size: tuple[int, int], dtype: npt.DTypeLike) -> None:
    random = np.random.default_rng(sum(size))
    kept = np.ascontiguousarray(picture(1, dtype)[: size[0], :]).repeat(2, axis=1)[:, : size[1]]
    step = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]  # type: ignore[index]
    levels = random.integers(-3, 4, kept.shape)
    now = (kept + (levels * step).astype(kept.dtype)).astype(kept.dtype)
    blocks = [
        np.square(levels[top : top + BLOCK_PX, left : left + BLOCK_PX]).mean()
        for top in range(0, size[0], BLOCK_PX)
        for left in range(0, size[1], BLOCK_PX)
    ]
    block, level = np.sqrt(max(blocks)), np.abs(levels.mean((0, 1))).max()
    assert block_change(kept, now) == pytest.approx(block, rel=1e-3)
    assert level_change(kept, now) == pytest.approx(level, rel=1e-3, abs=1e-3)
    for block_limit, level_limit in ((1.01, 1.01), (0.99, 1.01), (1.01, 0.98)):
        is_allowed = block_limit > 1 and level_limit > 1
        limits = ChangeLimits(block_limit * block, level_limit * level + 2e-3 * (level_limit - 1))
        assert is_within(kept, now, limits) == is_allowed or level < 0.1


def test_a_small_object_that_moves_is_not_missed() -> None:
    """Four pixels change the mean of a tile by almost nothing, but their block by much."""
    frames, frame = Frames(bounded()), picture()
    frames.upscale(frame)
    frame[10:12, 10:12] ^= 64
    np.testing.assert_array_equal(frames.upscale(frame)[20:24, 20:24], frame[10:12, 10:12].repeat(2, 0).repeat(2, 1))
    assert frames.computed[1] >= 1


def test_noise_within_the_limit_is_reused_and_more_is_not() -> None:
    frames, frame = Frames(bounded()), picture()
    first = frames.upscale(frame)
    noise = np.random.default_rng(1).integers(-1, 2, frame.shape)
    np.testing.assert_array_equal(frames.upscale((frame + noise).astype(np.uint8)), first)
    assert frames.reuse.statistics.changed == frames.computed[0] == frames.reuse.statistics.reused
    frames.upscale((frame + 9 * noise).astype(np.uint8))
    assert frames.computed == [frames.computed[0], 0, frames.computed[0]]


def test_drift_adds_up() -> None:
    """A scene that becomes brighter by one level every other frame: no result is further away than the limit."""
    frames = Frames(bounded())
    start = picture()
    for index in range(20):
        frame = (start + index // 2).astype(np.uint8)
        upscaled = frames.upscale(frame)
        error = np.abs(upscaled.astype(int) - frame.repeat(2, 0).repeat(2, 1)).max()
        assert error <= TABLE.limits(0.06).level
    assert 0 < sum(frames.computed[1:]) < 19 * frames.computed[0]


def test_each_result_is_refreshed_within_its_time_and_never_all_at_once() -> None:
    frames, frame = Frames(bounded()), picture()
    frames.upscale(frame, 100.0)
    tiles = frames.computed[0]
    random = np.random.default_rng(2)
    for index in range(1, 65):
        noisy = (frame + random.integers(0, 2, frame.shape)).astype(np.uint8)  # too little to be computed for
        frames.upscale(noisy, 100.0 + index * BOUND.refresh_s / 32)
    assert max(frames.computed[1:]) <= -(-tiles // 32)
    assert sum(frames.computed[1:33]) == sum(frames.computed[33:]) == tiles


def test_after_a_pause_nothing_old_is_reused() -> None:
    frames, frame = Frames(bounded()), picture()
    frames.upscale(frame, 5.0)
    changed = (frame + 1).astype(np.uint8)
    np.testing.assert_array_equal(frames.upscale(changed, 5.0 + BOUND.refresh_s), changed.repeat(2, 0).repeat(2, 1))


def test_results_whose_samples_are_the_same_need_no_refresh() -> None:
    frames, frame = Frames(bounded()), picture()
    for index in range(5):
        frames.upscale(frame, 3 * index * BOUND.refresh_s)
    assert frames.computed[1:] == [0, 0, 0, 0]


@pytest.mark.parametrize(("network_channels", "channels"), [(3, 3), (3, 1), (1, 3), (4, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_all_kinds_of_frames(network_channels: int, channels: int, dtype: npt.DTypeLike) -> None:
    session = SlottedSession(2, network_channels)
    session.spec = replace(session.spec, reuse_table=TABLE)
    upscaler = Upscaler(cast(Session, session), reuse=0.06)
    step = 257 if dtype is np.uint16 else 1
    random = np.random.default_rng(0)
    frame = (random.integers(40, 200, (40, 60, channels)) * step).astype(dtype)
    upscaler.upscale(frame)
    computed = session.computed
    frame[5, 5] += np.array(step).astype(dtype)
    upscaler.upscale(frame)
    assert session.computed == computed
    assert upscaler.reuse_statistics.changed >= 1
    assert upscaler.count_changed(frame) == 0
    frame[...] += np.array(20 * step).astype(dtype)
    upscaler.upscale(frame)
    assert session.computed == 2 * computed

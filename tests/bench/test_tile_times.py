"""The time of each tile of a session: measured in turn, within a limit, by an injected clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sr_edge.bench.protocol import no_progress
from sr_edge.bench.tile_times import MIN_ROUNDS, TIME_LIMIT_S, measure_tiles, with_tile_times
from sr_edge.bundle import Fingerprint, RecommendedEngine, open_bundle
from sr_edge.runtimes.session import Session
from sr_edge.spec import Precision, TileSpec
from tests.bundle.bundles import write
from tests.upscaler.test_upscaler import NearestSession

SMALL, LARGE = TileSpec(16, 24), TileSpec(32, 48)


class TimedSession(NearestSession):
    """Takes a millisecond for every 100 pixels of a tile, times `slowness`, by its own clock."""

    def __init__(self, slowness: float = 1.0) -> None:
        super().__init__()
        self.spec = replace(self.spec, tiles=(SMALL, LARGE))
        self.order: list[int] = []
        self.now_s, self._slowness = 0.0, slowness

    def run(self, frames: Any, controls: object = None) -> Any:
        self.order.append(frames.shape[0])
        self.now_s += self._slowness * frames.shape[0] * frames.shape[1] / 100_000
        return super().run(frames)


def times_of(session: TimedSession, rounds: int) -> dict[TileSpec, float]:
    times = measure_tiles(cast(Session, session), rounds, lambda: session.now_s)
    return {each.tile: round(each.latency_ms, 6) for each in times}


def test_every_tile_runs_once_in_each_round_after_a_first_run() -> None:
    session = TimedSession()
    assert times_of(session, 5) == {SMALL: 3.84, LARGE: 15.36}
    assert session.order == [16, 32] * 6


def test_slow_tiles_end_with_the_limit_but_not_before_the_least_number_of_rounds() -> None:
    session = TimedSession(slowness=1000 * TIME_LIMIT_S)
    assert set(times_of(session, 10)) == {SMALL, LARGE}
    assert session.order == [16, 32] * (1 + MIN_ROUNDS)


def test_a_bundle_of_one_tile_is_not_measured(tmp_path: Path) -> None:
    fp32 = Precision.FP32
    engine = RecommendedEngine("none", fp32, fp32, Fingerprint("cpu", "", (), "1"), 1.0, 0.0, 0.05, "bench", "2026")
    with open_bundle(write(tmp_path / "net.sredge")) as bundle:
        assert with_tile_times(bundle, [engine], 5, no_progress) == (engine,)

"""Measures the time of each tile of a bundle that has several, for the choice of tiles by the size of a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from sr_edge.bundle import Bundle, RecommendedEngine, TileTime
from sr_edge.errors import SrEdgeError
from sr_edge.model_sources.engine_choice import ChosenEngine
from sr_edge.model_sources.sessions import open_engine
from sr_edge.runtimes import Session, random_tile
from sr_edge.spec import FrameFormat, StageProgress, TileSpec

MIN_ROUNDS, MAX_ROUNDS = 3, 10
TIME_LIMIT_S = 20.0
"""After this time and MIN_ROUNDS, no further round is run."""


def with_tile_times(
    bundle: Bundle, engines: Sequence[RecommendedEngine], rounds: int, progress: StageProgress
) -> tuple[RecommendedEngine, ...]:
    """The engines with the time of each tile; unchanged if the bundle has one tile.

    Args:
        bundle: The open bundle.
        engines: The engines that a measurement recommends on this machine.
        rounds: Number of rounds, of which MAX_ROUNDS are run at most.
        progress: Called with (stage, steps done, number of steps).
    """
    if len(bundle.manifest.tiles) < 2:
        return tuple(engines)
    timed = []
    for index, engine in enumerate(engines):
        progress("timing tiles", index, len(engines))
        timed.append(replace(engine, tile_times=_times_of(bundle, engine, rounds)))
    progress("timing tiles", len(engines), len(engines))
    return tuple(timed)


def _times_of(bundle: Bundle, engine: RecommendedEngine, rounds: int) -> tuple[TileTime, ...]:
    """The times of all tiles in one engine; none where it cannot be opened a second time."""
    place = engine.fingerprint.device
    chosen = ChosenEngine(engine.runtime, engine.precision, engine.float_precision, place, engine.threads)
    try:
        with open_engine(bundle, chosen) as session:
            return measure_tiles(session, min(rounds, MAX_ROUNDS))
    except SrEdgeError:  # tiles are then chosen by the number of pixels, which `TileChoice` reports
        return ()


def measure_tiles(
    session: Session, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[TileTime, ...]:
    """The median time of an 8-bit tile of each size that a session takes; in each round, every size is run once.

    Args:
        session: The session.
        rounds: Number of rounds.
        clock: Returns the time in seconds.
    """
    spec = session.spec
    frames = {tile: random_tile(tile, FrameFormat.UINT8_NHWC, spec.channels) for tile in spec.tiles or (spec.tile,)}
    for frame in frames.values():
        session.run(frame)  # the first tile is slow
    samples_s: dict[TileSpec, list[float]] = {tile: [] for tile in frames}
    started = clock()
    for done in range(max(rounds, 1)):
        if done >= MIN_ROUNDS and clock() - started > TIME_LIMIT_S:
            break
        for tile, frame in frames.items():
            begun = clock()
            session.run(frame)
            samples_s[tile].append(clock() - begun)
    return tuple(TileTime(tile, 1e3 * median(samples)) for tile, samples in samples_s.items())

"""A file that is delivered in real time."""

from __future__ import annotations

from sr_edge.camera.sources.wrappers import PacedSource
from tests.camera.clips import flat_frame
from tests.camera.fakes import ListSource


def test_a_paced_file_comes_at_its_times_and_counts_as_live() -> None:
    waited: list[float] = []

    def wait_until(at_s: float) -> bool:
        waited.append(at_s)
        return False

    frames = [flat_frame(number, pts=pts) for number, pts in enumerate([30, 33, 48])]
    source = PacedSource(ListSource(frames), wait_until)
    assert source.is_live
    given = list(source.frames())
    assert [frame.pts for frame in given] == [30, 33, 48]
    assert all(frame.captured_ns > 0 for frame in given)
    assert [round(at_s - waited[0], 6) for at_s in waited] == [0, 0.1, 0.6]


def test_a_paced_file_ends_when_it_is_closed_while_it_waits() -> None:
    inner = ListSource([flat_frame(0, pts=0), flat_frame(1, pts=30 * 3600)])
    source = PacedSource(inner)
    given = []
    for frame in source.frames():
        given.append(frame.sequence)
        source.close()
    assert given == [0]
    assert inner.closed.is_set()

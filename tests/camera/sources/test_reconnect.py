"""A live source that ends, fails or falls silent is opened again; here from lists, in test_network.py for real."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.sources.reconnect import ReconnectingSource
from sr_edge.errors import FrameError, StreamError
from tests.camera.clips import flat_frame
from tests.camera.fakes import TIMEOUT_S, ListSource, eventually
from tests.expected_errors import raises


def some(count: int) -> list[VideoFrame]:
    return [flat_frame(number, pts=number) for number in range(count)]


def failing(count: int) -> Iterator[VideoFrame]:
    yield from some(count)
    raise StreamError("a list: the other side is gone")


class Openings:
    """What is opened next, each time the source is lost; None is an opening that fails."""

    def __init__(self, *sources: ListSource | None) -> None:
        self.left = list(sources)
        self.lost: list[ListSource] = []
        self.events: list[str] = []

    def open(self, lost: ListSource) -> ListSource:
        self.lost.append(lost)
        source = self.left.pop(0)
        if source is None:
            raise StreamError("a list: nobody answers there", found="nobody")
        return source

    def source(
        self, first: ListSource, timeout_s: float = 10.0, give_up_s: float | None = None
    ) -> ReconnectingSource[ListSource]:
        return ReconnectingSource(
            first, self.open, timeout_s=timeout_s, give_up_s=give_up_s, on_event=self.events.append, first_wait_s=0.0
        )


def taken(source: ReconnectingSource[ListSource], count: int) -> list[VideoFrame]:
    """So many frames, after which the source is closed."""
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == count:
            source.close()
    return frames


def live(frames: object) -> ListSource:
    return ListSource(frames, is_live=True)  # type: ignore[arg-type]


def test_a_source_that_ended_or_failed_is_opened_again_and_numbered_through() -> None:
    first = live(some(2))
    openings = Openings(live(failing(3)), live(some(100)))
    source = openings.source(first)
    frames = taken(source, 8)
    assert [frame.sequence for frame in frames] == list(range(8))
    assert [frame.pts for frame in frames] == [0, 1, 0, 1, 2, 0, 1, 2]
    assert source.reconnections == 2
    assert first.closed.is_set()
    assert openings.lost[0] is first
    assert openings.events[0] == "a list was lost: the stream ended; reconnecting"
    assert openings.events[1].startswith("a list is available again after 0.")
    assert openings.events[2] == "a list was lost: the other side is gone; reconnecting"


def test_it_is_tried_until_it_is_there() -> None:
    openings = Openings(None, None, None, live(some(9)))
    frames = taken(openings.source(live(some(1))), 3)
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert len(openings.lost) == 4


def test_waits_double_up_to_a_limit() -> None:
    openings = Openings(*[None] * 7, live(some(9)))
    waits: list[float] = []
    source = ReconnectingSource(live(some(1)), openings.open, first_wait_s=0.5, wait=waits.append)
    assert len(taken(source, 2)) == 2
    assert waits == [0.5, 1, 2, 4, 8, 8, 8, 8]


def test_after_so_long_it_is_given_up() -> None:
    openings = Openings(None)
    with raises(StreamError, found="nobody"):
        list(openings.source(live(some(1)), give_up_s=0.0).frames())
    assert len(openings.lost) == 1


def test_a_source_that_opens_and_gives_no_frame_is_still_away() -> None:
    openings = Openings(live([]), None, live(failing(0)), live([]), live(some(2)), live([]), live(some(9)))
    waits: list[float] = []
    source = ReconnectingSource(
        live(some(1)), openings.open, on_event=openings.events.append, first_wait_s=0.5, wait=waits.append
    )
    assert len(taken(source, 4)) == 4
    assert waits == [0.5, 1, 2, 4, 8, 0.5, 1]
    assert source.reconnections == 2
    assert [text.removeprefix("a list ").partition(" after")[0] for text in openings.events] == [
        "was lost: the stream ended; reconnecting",
        "is still unavailable: nobody answers there",
        "is still unavailable: the other side is gone",
        "is still unavailable: the stream ended",
        "is available again",
        "was lost: the stream ended; reconnecting",
        "is available again",
    ]


def test_a_source_that_never_gives_a_frame_again_is_given_up() -> None:
    openings = Openings(*[live([]) for _ in range(9)])
    with raises(StreamError, found="a list"):
        list(openings.source(live(some(1)), give_up_s=0.0).frames())
    assert len(openings.lost) == 1


def test_a_fault_that_opening_again_would_not_mend_is_raised(recwarn: pytest.WarningsRecorder) -> None:
    def unreadable() -> Iterator[VideoFrame]:
        yield from some(1)
        raise FrameError("a list: the pixel format xyz is not supported", found="xyz")

    openings, first = Openings(live(some(9))), live(unreadable())
    with raises(FrameError, found="xyz"):
        list(openings.source(first).frames())
    assert first.closed.is_set()
    assert (openings.lost, openings.events, list(recwarn)) == ([], [], [])


def test_a_source_that_falls_silent_is_left_and_opened_again() -> None:
    let_go = threading.Event()

    def hanging() -> Iterator[VideoFrame]:
        yield from some(2)
        assert let_go.wait(TIMEOUT_S)

    hung = live(hanging())
    openings = Openings(live(some(100)))
    source = openings.source(hung, timeout_s=0.05)
    try:
        frames = taken(source, 5)
    finally:
        let_go.set()
    assert [frame.sequence for frame in frames] == list(range(5))
    assert openings.events[0] == "a list was lost: no frame for 0.05 s; reconnecting"
    assert hung.closed.is_set()


@pytest.mark.parametrize("is_unavailable", [False, True], ids=["silent", "away"])
def test_it_can_be_closed_while_it_waits(is_unavailable: bool) -> None:
    let_go = threading.Event()

    def silent() -> Iterator[VideoFrame]:
        yield from some(1)
        if not is_unavailable:
            assert let_go.wait(TIMEOUT_S)

    source = ReconnectingSource(live(silent()), Openings(*[None] * 9).open, first_wait_s=TIMEOUT_S)
    frames: list[VideoFrame] = []

    def read() -> None:
        for frame in source.frames():
            frames.append(frame)

    reading = threading.Thread(target=read)
    reading.start()
    eventually(lambda: len(frames) == 1)
    source.close()
    reading.join(TIMEOUT_S)
    let_go.set()
    assert not reading.is_alive()


def test_a_lost_connection_is_freed_at_once() -> None:
    """Its decoder has threads, which must not wait for the garbage collector."""

    class Decoder:
        pass

    decoders: list[weakref.ref[Decoder]] = []

    def failing_with_decoder() -> Iterator[VideoFrame]:
        decoder = Decoder()
        decoders.append(weakref.ref(decoder))
        yield from some(1)
        try:
            raise OSError(str(decoder))
        except OSError as error:
            raise StreamError(f"a list: {error}") from None

    openings = Openings(live(failing_with_decoder()), live(some(9)))
    gc.disable()
    try:
        taken(openings.source(live(failing_with_decoder())), 3)
        assert [decoder() for decoder in decoders] == [None, None]
    finally:
        gc.enable()

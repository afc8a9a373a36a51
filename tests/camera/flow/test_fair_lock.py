"""The lock of an engine that several streams share."""

from __future__ import annotations

import threading

from sr_edge.camera.flow.fair_lock import FairLock
from tests.camera.fakes import TIMEOUT_S, eventually


def test_streams_are_served_in_rotation_whoever_asks_most() -> None:
    """One stream with five threads, three with one each: all wait for one engine."""
    lock = FairLock(1)
    served: list[str] = []
    streams = ["greedy"] * 5 + ["a", "b", "c"]

    def ask(stream: str) -> None:
        with lock.acquire(stream):
            served.append(stream)

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in streams]
    with lock.acquire("first"):
        for thread in threads:
            thread.start()
        eventually(lambda: lock.waiting == len(streams))
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sorted(served[:4]) == ["a", "b", "c", "greedy"]
    assert served[4:] == ["greedy"] * 4


def test_no_more_than_allowed_are_served_at_once() -> None:
    lock = FairLock(2)
    inside, most = 0, 0
    counting = threading.Lock()

    def work(stream: int) -> None:
        nonlocal inside, most
        for _ in range(50):
            with lock.acquire(stream):
                with counting:
                    inside += 1
                    most = max(most, inside)
                with counting:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(stream,)) for stream in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert most <= 2
    assert inside == 0

"""Policies as they are written, the queues, and fair turns on an engine."""

from __future__ import annotations

import threading

import pytest

from sr_edge.camera.policy import Dropping, Policy, policy_for
from sr_edge.camera.queues import DROP_LATE_DEPTH, InputQueue, OrderedOutput
from sr_edge.camera.turns import FairLock
from sr_edge.errors import UsageError
from tests.camera.clips import flat_frame
from tests.camera.stand_ins import PATIENCE_S, eventually
from tests.expected_errors import raises


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("latest", Policy(Dropping.LATEST)),
        ("block", Policy(Dropping.BLOCK)),
        ("drop-late 100", Policy(Dropping.DROP_LATE, 100)),
        ("drop-late=33.5", Policy(Dropping.DROP_LATE, 33.5)),
    ],
)
def test_policies_are_read(text: str, policy: Policy) -> None:
    assert Policy.parse(text) == policy
    assert Policy.parse(str(policy)) == policy


@pytest.mark.parametrize("text", ["", "newest", "drop-late", "drop-late x", "latest 5"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with raises(UsageError, found=text, wanted=["latest", "block", "drop-late MS"]):
        Policy.parse(text)


def test_a_deadline_that_is_over_at_once_is_refused() -> None:
    with raises(UsageError, found=0.0, wanted="more than 0 ms"):
        Policy.parse("drop-late 0")


def test_live_sources_drop_others_wait() -> None:
    assert policy_for(is_live=True).dropping is Dropping.LATEST
    assert policy_for(is_live=False).dropping is Dropping.BLOCK


def test_drop_late_holds_a_bounded_number() -> None:
    inbox = InputQueue(Policy.parse("drop-late 1000000"))
    for number in range(DROP_LATE_DEPTH + 5):
        inbox.put(flat_frame(number))
    assert (len(inbox), inbox.dropped) == (DROP_LATE_DEPTH, 5)


def test_a_newer_frame_displaces_older_ones_but_none_to_which_it_gives_way() -> None:
    waiting: list[tuple[int, ...]] = []
    for last in range(1, 8):
        inbox = InputQueue(Policy.parse("latest"), is_low_priority=lambda frame: frame.sequence % 3 != 0)
        for number in range(1, last + 1):
            inbox.put(flat_frame(number))
        assert inbox.dropped == last - len(inbox)
        waiting.append(tuple(frame.sequence for frame in iter(inbox.take, None)))
    assert waiting == [(1,), (2,), (3,), (3, 4), (3, 5), (6,), (6, 7)]


def test_only_a_frame_that_is_wanted_is_taken() -> None:
    inbox = InputQueue(Policy.parse("block"))
    inbox.put(flat_frame(1))
    assert inbox.take(lambda frame: frame.sequence == 2) is None
    assert inbox.head() is inbox.take(lambda frame: frame.sequence == 1) is not None
    assert inbox.head() is None


def test_an_ended_inbox_takes_nothing_and_wakes_who_waits() -> None:
    inbox = InputQueue(Policy.parse("block"))
    inbox.put(flat_frame(0))
    inbox.put(flat_frame(1))
    refused: list[bool] = []
    waiting = threading.Thread(target=lambda: refused.append(not inbox.put(flat_frame(2))))
    waiting.start()
    inbox.end()
    waiting.join(PATIENCE_S)
    assert refused == [True]
    assert inbox.wait()
    assert [inbox.take(), inbox.take()] != [None, None]
    assert not inbox.wait()
    assert inbox.is_over


def test_results_come_out_in_order_whatever_order_they_came_in() -> None:
    outbox: OrderedOutput[str] = OrderedOutput(4)
    assert all(outbox.reserve() for _ in range(4))
    tickets = [outbox.issue_ticket() for _ in range(4)]
    for ticket, item in zip(reversed(tickets), ("d", None, "b", "a"), strict=True):
        outbox.deliver(ticket, item)
    outbox.end()
    assert [outbox.take(1), outbox.take(1), outbox.take(1), outbox.take(1)] == ["a", "b", "d", None]
    assert outbox.is_over


def test_a_full_outbox_makes_its_workers_wait() -> None:
    outbox: OrderedOutput[str] = OrderedOutput(1)
    assert outbox.reserve()
    outbox.deliver(outbox.issue_ticket(), "a")
    granted: list[bool] = []
    waiting = threading.Thread(target=lambda: granted.append(outbox.reserve()))
    waiting.start()
    assert granted == []
    assert outbox.take(PATIENCE_S) == "a"
    waiting.join(PATIENCE_S)
    assert granted == [True]


def test_more_results_may_wait_behind_one_that_is_under_way_but_not_for_who_takes_them() -> None:
    outbox: OrderedOutput[str] = OrderedOutput(1, extra_depth=1)
    assert outbox.reserve()
    assert outbox.reserve()
    first, second = outbox.issue_ticket(), outbox.issue_ticket()
    outbox.deliver(second, "b")
    outbox.deliver(first, "a")
    assert outbox.take(PATIENCE_S) == "a"
    granted: list[bool] = []
    waiting = threading.Thread(target=lambda: granted.append(outbox.reserve()))
    waiting.start()
    assert granted == []
    assert outbox.take(PATIENCE_S) == "b"
    waiting.join(PATIENCE_S)
    assert granted == [True]


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
        thread.join(PATIENCE_S)
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
        thread.join(PATIENCE_S)
    assert most <= 2
    assert inside == 0

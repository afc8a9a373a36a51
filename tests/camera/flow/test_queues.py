"""The queue of frames before the workers, and the ordered output behind them."""

from __future__ import annotations

import threading

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.queues import DROP_LATE_DEPTH, InputQueue, OrderedOutput
from tests.camera.clips import flat_frame
from tests.camera.fakes import TIMEOUT_S


def test_drop_late_holds_a_bounded_number() -> None:
    queue = InputQueue(Policy.parse("drop-late 1000000"))
    for number in range(DROP_LATE_DEPTH + 5):
        queue.put(flat_frame(number))
    assert (len(queue), queue.dropped) == (DROP_LATE_DEPTH, 5)


def test_a_newer_frame_displaces_older_ones_but_none_to_which_it_gives_way() -> None:
    waiting: list[tuple[int, ...]] = []
    for last in range(1, 8):
        queue = InputQueue(Policy.parse("latest"), is_low_priority=lambda frame: frame.sequence % 3 != 0)
        for number in range(1, last + 1):
            queue.put(flat_frame(number))
        assert queue.dropped == last - len(queue)
        waiting.append(tuple(frame.sequence for frame in iter(queue.take, None)))
    assert waiting == [(1,), (2,), (3,), (3, 4), (3, 5), (6,), (6, 7)]


def test_only_a_frame_that_is_wanted_is_taken() -> None:
    queue = InputQueue(Policy.parse("block"))
    queue.put(flat_frame(1))
    assert queue.take(lambda frame: frame.sequence == 2) is None
    assert queue.head() is queue.take(lambda frame: frame.sequence == 1) is not None
    assert queue.head() is None


def test_an_ended_queue_takes_nothing_and_wakes_waiting_threads() -> None:
    queue = InputQueue(Policy.parse("block"))
    queue.put(flat_frame(0))
    queue.put(flat_frame(1))
    refused: list[bool] = []
    waiting = threading.Thread(target=lambda: refused.append(not queue.put(flat_frame(2))))
    waiting.start()
    queue.end()
    waiting.join(TIMEOUT_S)
    assert refused == [True]
    assert queue.wait()
    assert [queue.take(), queue.take()] != [None, None]
    assert not queue.wait()
    assert queue.is_over


def test_results_come_out_in_order_whatever_order_they_came_in() -> None:
    output: OrderedOutput[str] = OrderedOutput(4)
    assert all(output.reserve() for _ in range(4))
    tickets = [output.issue_ticket() for _ in range(4)]
    for ticket, item in zip(reversed(tickets), ("d", None, "b", "a"), strict=True):
        output.deliver(ticket, item)
    output.end()
    assert [output.take(1), output.take(1), output.take(1), output.take(1)] == ["a", "b", "d", None]
    assert output.is_over


def test_a_full_output_makes_its_workers_wait() -> None:
    output: OrderedOutput[str] = OrderedOutput(1)
    assert output.reserve()
    output.deliver(output.issue_ticket(), "a")
    granted: list[bool] = []
    waiting = threading.Thread(target=lambda: granted.append(output.reserve()))
    waiting.start()
    assert granted == []
    assert output.take(TIMEOUT_S) == "a"
    waiting.join(TIMEOUT_S)
    assert granted == [True]


def test_more_results_may_wait_behind_one_that_is_under_way_but_not_for_who_takes_them() -> None:
    output: OrderedOutput[str] = OrderedOutput(1, extra_depth=1)
    assert output.reserve()
    assert output.reserve()
    first, second = output.issue_ticket(), output.issue_ticket()
    output.deliver(second, "b")
    output.deliver(first, "a")
    assert output.take(TIMEOUT_S) == "a"
    granted: list[bool] = []
    waiting = threading.Thread(target=lambda: granted.append(output.reserve()))
    waiting.start()
    assert granted == []
    assert output.take(TIMEOUT_S) == "b"
    waiting.join(TIMEOUT_S)
    assert granted == [True]

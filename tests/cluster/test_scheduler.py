"""The scheduler with a fake cluster: what is sent where, how often, and what happens to what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from sr_edge.cluster.scheduler import (
    MAX_LOSSES,
    NO_NODES_TIMEOUT_S,
    TASKS_PER_ENGINE,
    Began,
    Broke,
    Ended,
    Event,
    Node,
    Priority,
    Scheduler,
    Task,
    Unable,
)
from sr_edge.errors import ClusterError

Outcome = Callable[[int, str, str], list[Event[str]]]
"""The events by which a task ends: called with its ticket, its work and its machine."""


def done(ticket: int, work: str, node: str) -> list[Event[str]]:
    return [Ended(ticket, work)]


@dataclass
class FakeCluster:
    """Runs each task at the next `wait`, on the first machine with room that is not excluded."""

    machines: dict[str, Node]
    outcome: Outcome = done
    time_s: float = 0.0
    sent: list[tuple[str, str]] = field(default_factory=list)
    waiting: dict[int, tuple[str, frozenset[str]]] = field(default_factory=dict)
    most_waiting: int = 0
    stopped: bool = False
    on_wait: Callable[[], object] = lambda: None

    def nodes(self) -> Mapping[str, Node]:
        return dict(self.machines)

    def submit(self, ticket: int, work: str, excluded: frozenset[str]) -> None:
        self.waiting[ticket] = (work, excluded)
        self.most_waiting = max(self.most_waiting, len(self.waiting))

    def wait(self, timeout_s: float) -> list[Event[str]]:
        self.time_s += timeout_s
        self.on_wait()
        for ticket, (work, excluded) in self.waiting.items():
            places = [name for name in self.machines if name not in excluded]
            if places:
                del self.waiting[ticket]
                self.sent.append((work, places[0]))
                return [Began(ticket, places[0]), *self.outcome(ticket, work, places[0])]
        return []

    def withdraw(self, ticket: int) -> None:
        del self.waiting[ticket]

    def stop(self) -> None:
        self.stopped = True


@dataclass
class FakeJob:
    """Tries each task up to three times; `follow_up` makes tasks of results."""

    tasks: Iterable[Task[str]]
    follow_up: Callable[[str], list[Task[str]]] = lambda result: []
    results: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)
    taken: int = 0

    def new_tasks(self) -> Iterator[Task[str]]:
        for task in self.tasks:
            self.taken += 1
            yield task

    def on_result(self, task: Task[str], result: str, node: Node) -> list[Task[str]]:
        self.results.append((result, node.name))
        return self.follow_up(result)

    def on_break(self, task: Task[str], reason: str, node: Node) -> list[Task[str]]:
        failures = (*task.failures, node.id)
        if len(failures) < 3:
            return [replace(task, failures=failures)]
        self.failed.append((task.work, reason))
        return []

    def is_wanted(self, task: Task[str]) -> bool:
        return task.work not in self.unwanted

    def on_progress(self, running: int, frames: int) -> None: ...


def machines(*names: str, engines: int = 1) -> dict[str, Node]:
    return {name: Node(name, f"host-{name}", engines) for name in names}


def run(cluster: FakeCluster, job: FakeJob, **options: object) -> Scheduler[str, str]:
    scheduler: Scheduler[str, str] = Scheduler(cluster, job, clock=lambda: cluster.time_s, **options)  # type: ignore[arg-type]
    scheduler.run()
    return scheduler


def crashing_on(*names: str) -> Outcome:
    def outcome(ticket: int, work: str, node: str) -> list[Event[str]]:
        return [Broke(ticket, "its process crashed")] if node in names else done(ticket, work, node)

    return outcome


def test_every_task_is_run_once_and_at_most_a_few_wait() -> None:
    cluster, job = FakeCluster(machines("a", "b", engines=2)), FakeJob([Task(str(number)) for number in range(50)])
    run(cluster, job)
    assert sorted(int(result) for result, _ in job.results) == list(range(50))
    assert cluster.most_waiting == 4 * TASKS_PER_ENGINE


def test_new_tasks_are_made_when_there_is_room() -> None:
    job = FakeJob(Task(str(number)) for number in range(1000))
    cluster = FakeCluster(machines("a"))
    taken = []
    cluster.on_wait = lambda: taken.append(job.taken - len(job.results))
    run(cluster, job)
    assert max(taken) == TASKS_PER_ENGINE


def test_workers_limit_what_runs_at_the_same_time() -> None:
    cluster = FakeCluster(machines("a", "b", engines=4))
    run(cluster, FakeJob([Task(str(number)) for number in range(9)]), workers=3)
    assert cluster.most_waiting == 3


def test_what_crashed_is_tried_on_another_machine() -> None:
    cluster, job = FakeCluster(machines("a", "b"), crashing_on("a")), FakeJob([Task("work")])
    run(cluster, job)
    assert cluster.sent == [("work", "a"), ("work", "b")]
    assert job.results == [("work", "host-b")]


def test_what_crashed_is_tried_on_the_only_machine_again_and_fails_at_last() -> None:
    cluster, job = FakeCluster(machines("a"), crashing_on("a")), FakeJob([Task("poison"), Task("poison too")])
    run(cluster, job)
    assert [work for work, _ in cluster.sent].count("poison") == 3
    assert sorted(job.failed) == [("poison", "its process crashed"), ("poison too", "its process crashed")]


def test_a_lost_machine_is_no_attempt() -> None:
    losses = iter([True] * 5)

    def outcome(ticket: int, work: str, node: str) -> list[Event[str]]:
        return [Broke(ticket, "lost", is_node_lost=True)] if next(losses, False) else done(ticket, work, node)

    job = FakeJob([Task("work")])
    scheduler = run(FakeCluster(machines("a"), outcome), job)
    assert job.results == [("work", "host-a")]
    assert job.failed == []
    assert scheduler.lost_nodes == {"host-a"}


def test_a_task_that_takes_its_machines_down_fails_at_last() -> None:
    def outcome(ticket: int, work: str, node: str) -> list[Event[str]]:
        return [Broke(ticket, "lost", is_node_lost=True)]

    cluster, job = FakeCluster(machines("a"), outcome), FakeJob([Task("work")])
    run(cluster, job)
    assert len(cluster.sent) == MAX_LOSSES + 3
    assert job.failed == [("work", "lost")]


def test_a_machine_that_is_unable_gets_no_more_work() -> None:
    def outcome(ticket: int, work: str, node: str) -> list[Event[str]]:
        return [Unable(ticket, "no room for the bundle")] if node == "a" else done(ticket, work, node)

    cluster, job = FakeCluster(machines("a", "b"), outcome), FakeJob([Task(str(number)) for number in range(9)])
    run(cluster, job)
    # What waited for any machine when this was found out may still reach it.
    assert len([node for _, node in cluster.sent if node == "a"]) <= 2 * TASKS_PER_ENGINE
    assert len(job.results) == 9
    assert job.failed == []


def test_a_machine_with_an_obstacle_gets_no_work() -> None:
    nodes = machines("a", "b")
    nodes["a"] = replace(nodes["a"], obstacle="another version")
    cluster = FakeCluster(nodes)
    run(cluster, FakeJob([Task(str(number)) for number in range(5)]))
    assert {node for _, node in cluster.sent} == {"b"}


def test_a_machine_that_joins_gets_work() -> None:
    cluster = FakeCluster(machines("a"))
    cluster.on_wait = lambda: cluster.machines.update(machines("b", engines=5)) if cluster.time_s > 5 else None
    run(cluster, FakeJob([Task(str(number)) for number in range(100)]))
    assert cluster.most_waiting == 6 * TASKS_PER_ENGINE


def test_a_lost_machine_is_reported_by_its_name() -> None:
    cluster = FakeCluster(machines("a", "b"))
    cluster.on_wait = lambda: cluster.machines.pop("a", None) if cluster.time_s > 5 else None
    scheduler = run(cluster, FakeJob([Task(str(number)) for number in range(100)]))
    assert scheduler.lost_nodes == {"host-a"}


def test_a_task_that_waits_for_a_lost_machine_is_sent_elsewhere() -> None:
    """It failed on b, so that it is kept from b; then a, the only other machine, is lost before it begins."""
    cluster = FakeCluster(machines("b", "a"))

    def outcome(ticket: int, work: str, node: str) -> list[Event[str]]:
        if len(cluster.sent) > 1:
            return done(ticket, work, node)
        del cluster.machines["a"]
        return [Broke(ticket, "its process crashed")]

    cluster.outcome = outcome
    job = FakeJob([Task("work")])
    run(cluster, job)
    assert cluster.sent == [("work", "b"), ("work", "b")]
    assert job.results == [("work", "host-b")]


def test_without_machines_the_job_waits_and_then_fails_with_the_reasons() -> None:
    cluster = FakeCluster(machines("a"), lambda ticket, work, node: [Unable(ticket, "no GPU")])
    with pytest.raises(ClusterError) as caught:
        run(cluster, FakeJob([Task("work")]))
    assert caught.value.found == ("host-a: no GPU",)
    assert cluster.time_s > NO_NODES_TIMEOUT_S
    assert cluster.stopped


def test_what_finishes_a_film_is_sent_first() -> None:
    def parts_of(result: str) -> list[Task[str]]:
        if result == "film":
            return [Task("part 1", Priority.PART), Task("part 2", Priority.PART)]
        return [Task("join", Priority.JOIN)] if result == "part 2" else []

    cluster = FakeCluster(machines("a"))
    job = FakeJob([Task("film"), *(Task(f"picture {number}") for number in range(6))], parts_of)
    run(cluster, job)
    # One picture was waiting already when the film was divided, and another one when its last part was done.
    order = [work for work, _ in cluster.sent]
    assert order[:6] == ["film", "picture 0", "part 1", "part 2", "picture 1", "join"]


def test_what_is_not_wanted_any_more_is_not_sent() -> None:
    job = FakeJob([Task("film")])
    job.follow_up = lambda result: (
        [Task(f"part {number}", Priority.PART) for number in range(9)] if result == "film" else fail()
    )

    def fail() -> list[Task[str]]:
        job.unwanted = {f"part {number}" for number in range(9)}
        return []

    cluster = FakeCluster(machines("a"))
    run(cluster, job)
    assert [work for work, _ in cluster.sent] == ["film", "part 0", "part 1"]


def test_after_a_stop_nothing_is_sent_and_what_runs_ends() -> None:
    cluster, job = FakeCluster(machines("a")), FakeJob([Task(str(number)) for number in range(9)])
    run(cluster, job, is_stopping=lambda: len(job.results) >= 3)
    assert len(job.results) == 3
    assert not cluster.waiting


def test_an_interrupt_ends_all_tasks() -> None:
    cluster = FakeCluster(machines("a"))

    def interrupt() -> None:
        raise KeyboardInterrupt

    cluster.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(cluster, FakeJob([Task("work")]))
    assert cluster.stopped

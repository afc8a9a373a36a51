"""Decides which work is sent to a cluster, and what happens to work that fails; where it runs is left to the cluster.

At most a few tasks for each engine are in flight, so that memory stays bounded however many files a job has. What
failed is sent again, up to `MAX_ATTEMPTS` times, to another machine if there is one.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import count
from typing import Generic, Protocol, TypeVar

from sr_edge.errors import ClusterError

MAX_ATTEMPTS = 3
"""How often a task is tried before it counts as failed."""
MAX_LOSSES = 10
"""How many machines may be lost under a task, which does not count as an attempt: the task itself may be the cause."""
TASKS_PER_ENGINE = 2
"""One that runs and one that waits, so that no engine waits for the next one."""
WAIT_S = 0.5
NODES_INTERVAL_S = 2.0
"""How often the machines of the cluster are listed again."""
NO_NODES_TIMEOUT_S = 120.0
"""How long a job waits for a machine after it lost the last one that can run it."""

Work = TypeVar("Work")
Result = TypeVar("Result")
_Work = TypeVar("_Work", contravariant=True)
_TakenResult = TypeVar("_TakenResult", contravariant=True)


class Priority(IntEnum):
    """What is sent first: what finishes a film, then what belongs to one that was begun."""

    JOIN = 0
    PART = 1
    NEW = 2


@dataclass(frozen=True)
class Task(Generic[Work]):
    """Work for one engine, and what happened to it before.

    Attributes:
        work: What the cluster runs.
        priority: What is sent first.
        failures: The machines on which it failed, in order; empty text for an unknown one.
        losses: How many machines were lost under it.
    """

    work: Work
    priority: Priority = Priority.NEW
    failures: tuple[str, ...] = ()
    losses: int = 0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Its identifier in the cluster.
        name: Its name for people.
        engines: How many engines it has room for.
        obstacle: Why it cannot run the job; empty if it can.
    """

    id: str
    name: str
    engines: int
    obstacle: str = ""


UNKNOWN_NODE = Node("", "", 0)
"""Where a task is that has not begun."""


@dataclass(frozen=True)
class Began:
    """A task has begun on a machine."""

    ticket: int
    node: str


@dataclass(frozen=True)
class Advanced:
    """A task has finished so many frames of a video."""

    ticket: int
    frames: int


@dataclass(frozen=True)
class Ended(Generic[Result]):
    """A task has returned a result."""

    ticket: int
    result: Result


@dataclass(frozen=True)
class Unable:
    """A machine cannot run the job, which is no failure of the task."""

    ticket: int
    reason: str


@dataclass(frozen=True)
class Broke:
    """A task ended without a result: its process crashed, or its machine was lost."""

    ticket: int
    reason: str
    is_node_lost: bool = False


Event = Began | Advanced | Ended[Result] | Unable | Broke


class Cluster(Protocol[_Work, Result]):
    """Runs work on several machines. The implementation for Ray is `sr_edge.cluster.ray_cluster`."""

    def nodes(self) -> Mapping[str, Node]:
        """The machines that are alive, by their identifiers."""
        ...

    def submit(self, ticket: int, work: _Work, excluded: frozenset[str]) -> None:
        """Sends work to any machine that is not excluded, as soon as it has room."""
        ...

    def wait(self, timeout_s: float) -> list[Event[Result]]:
        """What happened since the last call; waits for the first event at most so long."""
        ...

    def withdraw(self, ticket: int) -> None:
        """Takes back work that has not begun; no more events of it follow."""
        ...

    def stop(self) -> None:
        """Ends all tasks at once."""
        ...


class Job(Protocol[Work, _TakenResult]):
    """What a scheduler asks of the job that it runs."""

    def new_tasks(self) -> Iterator[Task[Work]]:
        """The tasks that depend on no others; each is made when there is room for it."""
        ...

    def on_result(self, task: Task[Work], result: _TakenResult, node: Node) -> Iterable[Task[Work]]:
        """Takes a result, and returns the tasks that follow from it: the next ones, or a failed one again."""
        ...

    def on_break(self, task: Task[Work], reason: str, node: Node) -> Iterable[Task[Work]]:
        """Returns the tasks by which one is tried again that ended without a result; none where that is pointless."""
        ...

    def is_wanted(self, task: Task[Work]) -> bool:
        """Whether a task that waits still has to be run; not if it belongs to something that failed."""
        ...

    def on_progress(self, running: int, frames: int) -> None:
        """Called again and again with the number of tasks that have begun, and how many frames of them are done."""
        ...


@dataclass
class _Sent(Generic[Work]):
    task: Task[Work]
    excluded: frozenset[str]
    node: Node = UNKNOWN_NODE
    frames: int = 0


@dataclass
class Scheduler(Generic[Work, Result]):
    """Runs a job on a cluster.

    Attributes:
        cluster: Runs the tasks.
        job: Says what the tasks are.
        workers: The most tasks that run at the same time; None for as many as the cluster has room for.
        is_stopping: Whether no more tasks should be sent, asked again and again.
        clock: Seconds that increase.
        lost_nodes: Names of the machines that were lost so far.
    """

    cluster: Cluster[Work, Result]
    job: Job[Work, Result]
    workers: int | None = None
    is_stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    lost_nodes: set[str] = field(default_factory=set)
    _sent: dict[int, _Sent[Work]] = field(default_factory=dict)
    _nodes: Mapping[str, Node] = field(default_factory=dict)
    _obstacles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tickets = count()
        self._queue: list[tuple[int, int, Task[Work]]] = []
        self._listed_at = self._able_at = self.clock()
        self._able: frozenset[str] = frozenset()
        self._unable: frozenset[str] = frozenset()
        self._capacity = 0

    def run(self) -> None:
        """Runs all tasks, or those that have begun once `is_stopping` says so.

        Raises:
            ClusterError: No machine that can run the job is left.
            BaseException: What a callback raises, or KeyboardInterrupt; all tasks are ended first.
        """
        new_tasks = self.job.new_tasks()
        try:
            while True:
                self._update_nodes()
                if self.is_stopping():
                    self._withdraw(lambda sent: True)
                    self._queue.clear()
                is_complete = self._send(new_tasks)
                if not self._sent and (is_complete or self.is_stopping()):
                    return
                for event in self.cluster.wait(WAIT_S):
                    self._handle(event)
                begun = [sent for sent in self._sent.values() if sent.node.id]
                self.job.on_progress(len(begun), sum(sent.frames for sent in begun))
        except BaseException:
            self.cluster.stop()
            raise

    def _update_nodes(self) -> None:
        now = self.clock()
        if self._able and now - self._listed_at < NODES_INTERVAL_S:
            return
        self._listed_at = now
        nodes = self.cluster.nodes()
        lost = (node.name for name, node in self._nodes.items() if name not in nodes and not node.obstacle)
        self.lost_nodes.update(lost)
        self._nodes = nodes
        self._divide_nodes()
        if self._able:
            self._able_at = now
            self._withdraw(lambda sent: self._able <= sent.excluded)  # it waits for machines that are lost
        elif now - self._able_at > NO_NODES_TIMEOUT_S:
            raise ClusterError(
                "no machine that can run the job is left in the cluster",
                found=self._reasons(),
                wanted="a machine that can run the job",
                remedy="add machines and run the same command again, which continues",
            )

    def _divide_nodes(self) -> None:
        """Tells the machines that can run the job from the others, and how many tasks may be in flight."""
        nodes = self._nodes.values()
        able = [node for node in nodes if not node.obstacle and node.id not in self._obstacles]
        self._able = frozenset(node.id for node in able)
        self._unable = frozenset(self._obstacles) | {node.id for node in nodes if node.obstacle}
        engines = sum(node.engines for node in able)
        is_limited = self.workers is not None and self.workers < engines
        self._capacity = self.workers if is_limited and self.workers else engines * TASKS_PER_ENGINE

    def _reasons(self) -> tuple[str, ...]:
        reasons = {**{node.id: node.obstacle for node in self._nodes.values()}, **self._obstacles}
        return tuple(f"{self._node(name).name}: {reason}" for name, reason in reasons.items() if reason)

    def _node(self, name: str) -> Node:
        """A machine by its identifier, which is also its name if it is new or lost."""
        return self._nodes.get(name) or Node(name, name[:12], 0)

    def _withdraw(self, is_meant: Callable[[_Sent[Work]], bool]) -> None:
        """Takes back tasks that have not begun; they are waiting to be sent again."""
        for ticket, sent in list(self._sent.items()):
            if not sent.node.id and is_meant(sent):
                self.cluster.withdraw(ticket)
                del self._sent[ticket]
                self._add([sent.task])

    def _send(self, new_tasks: Iterator[Task[Work]]) -> bool:
        """Fills the cluster up to its capacity; returns whether no more tasks wait."""
        while True:
            if self.is_stopping() or len(self._sent) >= self._capacity:
                return False
            task = heapq.heappop(self._queue)[2] if self._queue else next(new_tasks, None)
            if task is None:
                return True
            if not self.job.is_wanted(task):
                continue
            self._send_one(task)

    def _send_one(self, task: Task[Work]) -> None:
        excluded = self._unable | {node for node in task.failures if node}
        if self._able <= excluded:
            excluded = self._unable
        ticket = next(self._tickets)
        self._sent[ticket] = _Sent(task, excluded)
        self.cluster.submit(ticket, task.work, excluded)

    def _add(self, tasks: Iterable[Task[Work]]) -> None:
        for task in tasks:
            heapq.heappush(self._queue, (task.priority, next(self._tickets), task))

    def _handle(self, event: Event[Result]) -> None:
        sent = self._sent.get(event.ticket)
        if sent is None:
            return
        if isinstance(event, Began):
            sent.node = self._node(event.node)
            return
        if isinstance(event, Advanced):
            sent.frames = event.frames
            return
        del self._sent[event.ticket]
        if isinstance(event, Broke) and event.is_node_lost and sent.node.id:
            self.lost_nodes.add(sent.node.name)  # the cluster may list it for some more seconds
        if isinstance(event, Ended):
            self._add(self.job.on_result(sent.task, event.result, sent.node))
        elif isinstance(event, Unable):
            self._obstacles[sent.node.id] = event.reason
            self._divide_nodes()
            self._add([sent.task])
        elif event.is_node_lost and sent.task.losses < MAX_LOSSES:
            self._add([replace(sent.task, losses=sent.task.losses + 1)])
        else:
            self._add(self.job.on_break(sent.task, event.reason, sent.node))

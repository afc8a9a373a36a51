"""Runs tasks on a Ray cluster. Only this module and `ray_connection` import Ray.

Ray places each task by its resources: `num_cpus` for the threads of an engine on a CPU, or one GPU. A label selector
keeps it away from machines. The function that Ray runs is a generator, so that the driver knows where a task is before
it ends, which it needs to send it elsewhere should its process crash.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from sr_edge.cluster.node import LoadArchive, NodeUnable
from sr_edge.cluster.scheduler import Advanced, Began, Broke, Ended, Event, Node, Unable
from sr_edge.errors import ClusterError

CHECK_TIMEOUT_S = 120.0
"""How long a machine may take to say whether it can run a job; it imports a runtime for that."""
PROGRESS_INTERVAL_S = 1.0
_NODE_LABEL = "ray.io/node-id"

Work = TypeVar("Work")
Result = TypeVar("Result")
WorkIn = TypeVar("WorkIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Resources:
    """What a task occupies.

    Attributes:
        cpus: Cores, as many as its engine has threads.
        gpus: 1 for a runtime that runs on GPUs, else 0.
    """

    cpus: int = 1
    gpus: int = 0

    def engines_in(self, total: Mapping[str, float]) -> int:
        """For how many engines a machine with these resources has room."""
        by_cpu = int(total.get("CPU", 0)) // self.cpus
        return min(by_cpu, int(total.get("GPU", 0))) if self.gpus else by_cpu


class Program(Protocol[WorkIn, ResultOut]):
    """What runs in worker processes. Its class is sent by name: all machines have the same sr_edge."""

    def check(self, load_archive: LoadArchive) -> None:
        """Raises NodeUnable if this machine cannot run the job."""
        ...

    def run(self, work: WorkIn, load_archive: LoadArchive, on_frames: Callable[[int], None]) -> ResultOut:
        """Runs work; raises NodeUnable if this machine cannot. Other errors belong into the result."""
        ...


class RayCluster(Generic[Work, Result]):
    """The connection to a cluster for one job; see `ray_connection`."""

    def __init__(self, archive: bytes) -> None:
        """Puts the archive into Ray's object store, from which each machine copies it once.

        Args:
            archive: The packed bundle.
        """
        import ray

        self._store = {"archive": ray.put(archive)}  # in a dict, Ray does not copy it to a task that does not ask
        self._runs: dict[Any, int] = {}
        self._checks: dict[str, Any] = {}
        self._obstacles: dict[str, str] = {}
        self._resources = Resources()
        self._remote_ask: Any = ray.remote(_ask)
        self._remote_run: Any = None

    def first_answer(self, question: Callable[[LoadArchive], Answer]) -> Answer:
        """The answer of the first machine that does not raise NodeUnable.

        Raises:
            ClusterError: All machines raise it; the error has their reasons.
        """
        import ray

        reasons = {}
        for node in _ray_nodes():
            name, total = node["NodeManagerHostname"], node["Resources"]
            if not total.get("CPU"):
                continue
            reference = self._sent_to(node["NodeID"], question, gpus=min(1, int(total.get("GPU", 0))))
            try:
                answer, reasons[name] = ray.get(reference, timeout=CHECK_TIMEOUT_S)
            except ray.exceptions.RayError as error:
                reasons[name] = _reason(error)
            if not reasons[name]:
                return cast(Answer, answer)
        raise unable_cluster(reasons)

    def start(self, program: Program[Work, Result], resources: Resources) -> Mapping[str, Node]:
        """Asks all machines whether they can run a job, and waits for their answers.

        Args:
            program: What runs in worker processes.
            resources: What each task occupies.
        """
        import ray

        self._program, self._resources = program, resources
        # Without max_calls=0, a process with a GPU would end after one task, and the engine with it.
        self._remote_run = ray.remote(max_calls=0)(_run) if resources.gpus else ray.remote(_run)
        self.nodes()
        if self._checks:
            ray.wait(list(self._checks.values()), num_returns=len(self._checks), timeout=CHECK_TIMEOUT_S)
        return self.nodes()

    def _sent_to(self, node: str, question: Callable[[LoadArchive], object], gpus: int) -> Any:
        remote = self._remote_ask.options(num_cpus=0, num_gpus=gpus, max_retries=0, label_selector={_NODE_LABEL: node})
        return remote.remote(self._store, question)

    def nodes(self) -> Mapping[str, Node]:
        """The machines that are alive. Each is asked once whether it can run the job; until then it has an obstacle."""

        alive = {node["NodeID"]: node for node in _ray_nodes()}
        self._collect_checks()
        hosts = Counter(node["NodeManagerHostname"] for node in alive.values())
        nodes = {}
        for name, node in alive.items():
            host, engines = node["NodeManagerHostname"], self._resources.engines_in(node["Resources"])
            if engines and name not in self._checks and name not in self._obstacles:
                self._checks[name] = self._sent_to(name, self._program.check, self._resources.gpus)
            obstacle = self._obstacles.get(name, "") if engines else self._lack(node["Resources"])
            if engines and name in self._checks:
                obstacle = "it has not answered yet"
            nodes[name] = Node(name, host if hosts[host] == 1 else f"{host} ({name[:6]})", engines, obstacle)
        return nodes

    def _collect_checks(self) -> None:
        import ray

        if not self._checks:
            return
        ready, _ = ray.wait(list(self._checks.values()), num_returns=len(self._checks), timeout=0)
        for node, reference in list(self._checks.items()):
            if reference in ready:
                del self._checks[node]
                try:
                    _, self._obstacles[node] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    self._obstacles[node] = _reason(error)

    def _lack(self, total: Mapping[str, float]) -> str:
        resources = self._resources
        if resources.gpus and total.get("GPU", 0) < 1:
            return "it offers no GPU to Ray"
        return f"it offers {total.get('CPU', 0):g} CPU cores to Ray, and a worker needs {resources.cpus}"

    def submit(self, ticket: int, work: Work, excluded: frozenset[str]) -> None:
        """Sends work; see `Cluster`."""
        options: dict[str, Any] = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus}
        if excluded:
            options["label_selector"] = {_NODE_LABEL: f"!in({','.join(sorted(excluded))})"}
        remote = self._remote_run.options(num_returns="streaming", max_retries=0, **options)
        self._runs[remote.remote(self._store, self._program, work)] = ticket

    def wait(self, timeout_s: float) -> list[Event[Result]]:
        """What happened since the last call; see `Cluster`."""
        import ray

        runs = list(self._runs)
        if not runs:
            threading.Event().wait(timeout_s)
            return []
        ready, _ = ray.wait(runs, num_returns=1, timeout=timeout_s)
        if ready and len(runs) > 1:
            ready, _ = ray.wait(runs, num_returns=len(runs), timeout=0)
        return [event for run in ready for event in self._event_of(run)]

    def _event_of(self, run: Any) -> list[Event[Result]]:
        import ray

        ticket = self._runs[run]
        try:
            kind, value = ray.get(next(run))
        except (ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError) as error:
            del self._runs[run]
            return [Broke(ticket, _reason(error), is_node_lost=True)]
        except ray.exceptions.RayError as error:
            del self._runs[run]
            return [Broke(ticket, _reason(error))]
        except StopIteration:
            del self._runs[run]
            return [Broke(ticket, "it ended without a result")]
        if kind in (Ended, Unable):
            del self._runs[run]
        return [kind(ticket, value)]

    def withdraw(self, ticket: int) -> None:
        """Takes back work that has not begun; see `Cluster`."""
        import ray

        for run, other in list(self._runs.items()):
            if other == ticket:
                del self._runs[run]
                ray.cancel(run)

    def stop(self) -> None:
        """Ends all tasks and their processes at once; files that they are writing do not get their names."""
        import ray

        for run in self._runs:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(run, force=True)
        self._runs.clear()


def _reason(error: Exception) -> str:
    """What a person should know about an error of Ray, which explains itself in many lines."""
    import ray

    if isinstance(error, ray.exceptions.NodeDiedError | ray.exceptions.LocalRayletDiedError):
        return "its machine was lost"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "its process was ended, because the machine ran out of memory"
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "its process crashed"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _ray_nodes() -> list[dict[str, Any]]:
    """The machines that are alive, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def unable_cluster(reasons: Mapping[str, str]) -> ClusterError:
    """The error for a cluster of which no machine can run a job.

    Args:
        reasons: Why not, by the names of the machines.
    """
    lines = tuple(f"{name}: {reason}" for name, reason in reasons.items())
    return ClusterError(
        f"no machine of the cluster can run the model: {' | '.join(lines) or 'it has no machines'}",
        found=lines,
        wanted="a machine that can run the model",
        remedy="install sr-edge with that runtime there, start Ray there with more cores, or choose another --runtime, "
        "--precision or --threads",
    )


def _ask(store: Mapping[str, Any], question: Callable[[LoadArchive], object]) -> tuple[object, str]:
    """Runs in a worker process: the answer, and why this machine has none; empty if it has one."""
    try:
        return question(lambda: _archive(store)), ""
    except NodeUnable as error:
        return None, str(error)


def _run(store: Mapping[str, Any], program: Program[Any, Any], work: Any) -> Iterator[tuple[type, object]]:
    """Runs in a worker process: yields where it runs, how many frames are done, and the result.

    The work runs in a thread of its own, because a generator can yield only between two steps of the work.
    """
    import ray

    context = ray.get_runtime_context()
    _require_same_gpu(context.get_accelerator_ids().get("GPU", []))
    yield Began, context.get_node_id()
    messages: queue.SimpleQueue[tuple[type, object]] = queue.SimpleQueue()

    def run() -> None:
        try:
            messages.put((Ended, program.run(work, lambda: _archive(store), report)))
        except NodeUnable as error:
            messages.put((Unable, str(error)))
        except BaseException as error:
            messages.put((Exception, error))

    frames = [0]

    def report(done: int) -> None:
        frames[0] = done

    threading.Thread(target=run, name="sr-edge-task", daemon=True).start()
    reported = 0
    while True:
        try:
            kind, value = messages.get(timeout=PROGRESS_INTERVAL_S)
        except queue.Empty:
            if frames[0] != reported:
                reported = frames[0]
                yield Advanced, reported
            continue
        if kind is Exception:
            raise cast(BaseException, value)
        yield kind, value
        return


_gpu_ids: list[str] | None = None


def _require_same_gpu(gpu_ids: list[str]) -> None:
    """Ends this process if it is given another GPU than before: CUDA cannot change the GPUs that a process sees.

    Ray then starts a new process, and the task is sent again.
    """
    global _gpu_ids
    if _gpu_ids is not None and _gpu_ids != gpu_ids:
        os._exit(1)
    _gpu_ids = gpu_ids


def _archive(store: Mapping[str, Any]) -> bytes:
    import ray

    return cast(bytes, ray.get(store["archive"]))

"""Connects to a Ray cluster, or starts Ray on this machine, without what Ray prints on the terminal."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from typing import Any, TextIO, cast

from sr_edge.errors import ClusterError, RuntimeUnavailable, UsageError
from sr_edge.installation import how_to_install
from sr_edge.runtimes.engine.cores import usable_cores

LOCAL, AUTO = "local", "auto"
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
"""How long the head of a cluster may take to answer a health check, with the start of the process that asks."""
REFUSED_TOKEN = "InvalidAuthToken"
"""How Ray names the error of a missing or wrong token."""
_STORE_BYTES = 128 << 20
"""Memory of Ray's object store on this machine, in which only the packed bundle is kept, beside the bundle itself."""


@contextmanager
def connect(address: str, archive_bytes: int) -> Iterator[str]:
    """Connects to a Ray cluster, and disconnects at the end of the block; for "local" Ray is started and ended.

    Args:
        address: "local" for this machine alone; "auto" for the cluster that runs on this machine; or HOST:PORT of the
            head.
        archive_bytes: Size of the packed bundle, for which Ray's object store has to have room.

    Yields:
        The address of Ray's dashboard; empty if it does not run.

    Raises:
        RuntimeUnavailable: Ray is not installed.
        UsageError: The address is none.
        ClusterError: There is no cluster at the address, or it has another version of Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RuntimeUnavailable(
            "Ray is not installed", found=str(error), wanted="ray", remedy=f"run: {how_to_install('cluster')}"
        ) from error
    if ray.is_initialized():
        raise UsageError(
            "this process is connected to a Ray cluster already",
            wanted="a process without a connection to Ray",
            remedy="call ray.shutdown() first",
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
        options["object_store_memory"] = _STORE_BYTES + 2 * archive_bytes
    else:
        if address != AUTO:
            _require_reachable(address)
        _require_head(address)
    with ExitStack() as stack:
        stack.enter_context(_without_messages_of_ray())
        with _kept_signal_handlers():
            try:
                context = ray.init(address=address, **options)
            except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise _no_cluster(address, error) from error
        stack.callback(_disconnect)
        url = context.dashboard_url
        yield f"http://{url}" if url else ""


def _disconnect() -> None:
    """Disconnects without the messages that Ray has kept, because they were repeated, until now."""
    import ray

    with redirect_stdout(StringIO()):
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raises an error at once if nothing listens at the address."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UsageError(
            f"{address!r} is no address of a Ray cluster",
            found=address,
            wanted="local, auto or HOST:PORT",
            remedy="give HOST:PORT of the head, as `ray start --head` prints it, and run on a machine of the cluster",
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _require_head(address: str) -> None:
    """Raises an error if no head of a Ray cluster answers.

    `ray.init` would try for minutes where another server listens, print about it, and ignore Ctrl-C meanwhile. The
    process that asks instead can be ended, and its output is dropped.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    if address != AUTO:
        command += ["--address", address]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ANSWER_TIMEOUT_S
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        # Ray's own error is the end of a traceback, of which only the token is of use to a person.
        is_refused = isinstance(error, subprocess.CalledProcessError) and REFUSED_TOKEN in (error.stderr or "")
        reason = REFUSED_TOKEN if is_refused else "no head of a Ray cluster answers"
        raise _no_cluster(address, ConnectionError(reason)) from None


def _no_cluster(address: str, error: Exception) -> ClusterError:
    where = "on this machine" if address in (AUTO, LOCAL) else f"at {address}"
    if _is_refused_token(error):
        return ClusterError(
            f"the Ray cluster {where} requires a token, and refused this command",
            found=address,
            wanted="the token with which the cluster was started",
            remedy="set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from the head to this machine",
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ClusterError(
        f"cannot connect to a Ray cluster {where}" + (f": {lines[0]}" if lines else ""),
        found=address,
        wanted="a running cluster, of which this machine is a part",
        remedy="start one with `ray start --head`, join it with `ray start --address=HOST:PORT`, or use --ray local",
    )


def _is_refused_token(error: BaseException | None) -> bool:
    """Whether the cause is Ray's authentication; Ray raises a ConnectionError whose cause contains only the text."""
    while error is not None:
        if REFUSED_TOKEN in str(error) or type(error).__name__ == "AuthenticationError":
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Restores the handlers of Ctrl-C and SIGTERM, of which Ray replaces the latter."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _without_messages_of_ray() -> Iterator[None]:
    """Drops what Ray prints about lost processes and machines, which the job reports by itself.

    Ray has no setting for that; a thread of it prints to stdout.
    """
    with redirect_stdout(cast(TextIO, _WithoutThread(sys.stdout, "ray_listen_error_messages"))):
        yield


class _WithoutThread:
    """A stream that ignores what one thread writes."""

    def __init__(self, stream: TextIO, thread: str) -> None:
        self._stream, self._thread = stream, thread

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

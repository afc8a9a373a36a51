"""The page and its one connection: it asks for a frame once it has drawn the last, so it never falls behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

import anyio
import uvicorn
from anyio import to_thread
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.camera.preview.show import FramePair, PreviewStream
from sr_edge.errors import StreamError

MOST_VIEWERS = 8
_FIGURES_S = 0.5
_SHUTDOWN_S = 2
_REFUSED, _FULL = 4403, 1013
_MOST_BYTES = 4096
"""Of what a page says; it says little."""
_ASSETS = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/graphs.js": ("graphs.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class StreamInfo:
    """What the page says of the show: names, size of enlargement, policy and the engines to choose from."""

    source: str
    model: str
    scale: int
    policy: str
    choices: Sequence[EngineOption]

    @property
    def message(self) -> str:
        return json.dumps(
            {
                "kind": "stream_info",
                "source": self.source,
                "model": self.model,
                "scale": self.scale,
                "policy": self.policy,
                "choices": [choice.label for choice in self.choices],
            }
        )


def preview_app(stream: PreviewStream, stream_info: StreamInfo, access: Access) -> Starlette:
    """The web application; the show stays the caller's."""
    viewer_limit = anyio.CapacityLimiter(MOST_VIEWERS)

    async def asset(request: Request) -> Response:
        name, kind = _ASSETS[request.url.path]
        # What the page is made of is no secret; the page itself is asked for with the token.
        token = access.token if request.url.path != "/" else _token(request)
        refusal = access.refusal(request.headers, token)
        if refusal:
            return PlainTextResponse(refusal, 403, _HEADERS)
        content = (files("sr_edge.camera.preview") / "page" / name).read_bytes()
        return Response(content, media_type=kind, headers=_HEADERS)

    async def live(socket: WebSocket) -> None:
        refusal = access.refusal(socket.headers, _token(socket))
        await socket.accept()
        if refusal:
            await socket.close(_REFUSED, refusal)
            return
        viewer = object()
        try:
            viewer_limit.acquire_on_behalf_of_nowait(viewer)
        except anyio.WouldBlock:
            await socket.close(_FULL, f"{MOST_VIEWERS} pages are open already; close one")
            return
        try:
            await _Viewer(socket, stream, stream_info).look()
        finally:
            viewer_limit.release_on_behalf_of(viewer)

    return Starlette(routes=[*(Route(path, asset) for path in _ASSETS), WebSocketRoute("/live", live)])


def _token(connection: HTTPConnection) -> str:
    return connection.query_params.get("token", "")


class _Viewer:
    """One open page."""

    def __init__(self, socket: WebSocket, stream: PreviewStream, stream_info: StreamInfo) -> None:
        self._socket = socket
        self._stream = stream
        self._stream_info = stream_info
        self._choices = {choice.label: choice for choice in stream_info.choices}
        self._requests = anyio.Event()
        self._arrived = anyio.Event()
        self._last = -1

    async def look(self) -> None:
        """Until the page is closed."""
        await self._socket.send_text(self._stream_info.message)
        events = asyncio.get_running_loop()

        def on_pair() -> None:
            with suppress(RuntimeError):  # the server is on its way out
                events.call_soon_threadsafe(lambda: self._arrived.set())

        leave = self._stream.listen(on_pair)
        try:
            async with anyio.create_task_group() as tasks:
                for work in (self._send_frames, self._send_figures, self._hear):
                    tasks.start_soon(self._until_closed, work, tasks)
        finally:
            leave()

    async def _until_closed(self, work: Callable[[TaskGroup], Awaitable[None]], tasks: TaskGroup) -> None:
        """The first of the tasks that finds the page gone ends the others."""
        with suppress(WebSocketDisconnect, RuntimeError):  # starlette's second word for the same
            await work(tasks)
        tasks.cancel_scope.cancel()

    async def _send_frames(self, tasks: TaskGroup) -> None:
        while True:
            await self._requests.wait()
            self._requests = anyio.Event()
            pair = await self._next_pair()
            self._last = pair.number
            await self._socket.send_bytes(await to_thread.run_sync(pair.encoded))

    async def _next_pair(self) -> FramePair:
        while True:
            arrived = self._arrived = anyio.Event()
            pair = self._stream.newest(self._last)
            if pair is not None:
                return pair
            await arrived.wait()

    async def _send_figures(self, tasks: TaskGroup) -> None:
        while True:
            await self._socket.send_text(json.dumps(self._stream.figures()))
            await anyio.sleep(_FIGURES_S)

    async def _hear(self, tasks: TaskGroup) -> None:
        while True:
            request = _read_request(await self._socket.receive_text())
            if request.get("want") == "frame":
                self._requests.set()
            choice = self._choices.get(str(request.get("use")))
            if choice is not None:
                tasks.start_soon(to_thread.run_sync, self._stream.switch, choice)


def _read_request(text: str) -> dict[str, object]:
    """What a page says; nothing where it makes no sense."""
    try:
        request = json.loads(text)
    except ValueError:
        return {}
    return request if isinstance(request, dict) else {}


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises StreamError where nobody may listen there; port 0 takes one that is free."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise StreamError(
            f"cannot listen on {host}, port {port}: {_reason(error)}",
            found=(host, port),
            remedy="give another --port (0 takes a free one) or another --host",
        ) from error


def _reason(error: OSError) -> str:
    """In the system's words alone; Python adds the address to some of them."""
    is_of_names = isinstance(error, socket.gaierror) or error.errno is None
    return str(error.strerror or error) if is_of_names else os.strerror(error.errno or 0)


def server_for(app: Starlette) -> uvicorn.Server:
    """Runs by `run(sockets=[...])` until a signal comes or `should_exit` is set."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=_MOST_BYTES,
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
    )

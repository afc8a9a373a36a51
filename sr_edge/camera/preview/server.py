"""The web server of the preview, which sends each page its frames and statistics over one WebSocket.

A page requests a frame when it has drawn the previous one, so a slow page gets fewer frames and never old ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
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
from sr_edge.camera.preview.frame_message import PreviewFrame
from sr_edge.camera.preview.stream import PreviewStream
from sr_edge.errors import StreamError, UsageError
from sr_edge.spec import Control

MAX_VIEWERS = 8
MAX_ENGINES = 2
"""The engine of the stream, and one to compare with."""
_STATISTICS_INTERVAL_S = 0.5
_SHUTDOWN_TIMEOUT_S = 1
_REFUSED, _TRY_AGAIN_LATER, _NOT_TEXT, _MALFORMED = 4403, 1013, 1003, 1007
"""Close codes of the WebSocket: a private one, and registered ones (RFC 6455, section 7.4)."""
_MAX_MESSAGE_BYTES = 4096
"""Pages send short requests only."""
_SCRIPTS = ("page", "picture", "engines", "settings", "graphs")
_ASSETS = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in _SCRIPTS},
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
    """What the page shows about the stream.

    Attributes:
        source: Name of the source.
        model: Name of the bundle.
        scale: Magnification.
        policy: Which frames are dropped if they arrive too fast.
        engines: The engines that can be selected.
        recommended: The one of them that was measured to be the best here; None if none was measured.
        controls: The scalar inputs of the network, which viewers can set.
    """

    source: str
    model: str
    scale: int
    policy: str
    engines: Sequence[EngineOption]
    recommended: EngineOption | None = None
    controls: Sequence[Control] = ()

    @property
    def message(self) -> str:
        return json.dumps(
            {
                "kind": "stream_info",
                "source": self.source,
                "model": self.model,
                "scale": self.scale,
                "policy": self.policy,
                "engines": [option.label for option in self.engines],
                "recommended": None if self.recommended is None else self.recommended.label,
                "controls": [asdict(control) for control in self.controls],
            }
        )


def preview_app(stream: PreviewStream, stream_info: StreamInfo, access: Access) -> Starlette:
    """The web application; the caller closes the stream."""
    viewer_limit = anyio.CapacityLimiter(MAX_VIEWERS)

    async def asset(request: Request) -> Response:
        name, media_type = _ASSETS[request.url.path]
        # Only the page itself is requested with the token: its scripts and styles are public, and their relative
        # addresses do not contain it.
        token = access.token if request.url.path != "/" else _token(request)
        refusal = access.refusal(request.headers, token)
        if refusal:
            return PlainTextResponse(refusal, 403, _HEADERS)
        content = (files("sr_edge.camera.preview") / "page" / name).read_bytes()
        return Response(content, media_type=media_type, headers=_HEADERS)

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
            await socket.close(_TRY_AGAIN_LATER, f"{MAX_VIEWERS} pages are already open; close one")
            return
        try:
            await _Viewer(socket, stream, stream_info).serve()
        finally:
            viewer_limit.release_on_behalf_of(viewer)

    return Starlette(routes=[*(Route(path, asset) for path in _ASSETS), WebSocketRoute("/live", live)])


def _token(connection: HTTPConnection) -> str:
    return connection.query_params.get("token", "")


class _Viewer:
    """One open page.

    All methods run in the event loop of the server, except the callback of the stream, which only schedules a call in
    that loop. The two events are therefore set and replaced by one thread.
    """

    def __init__(self, socket: WebSocket, stream: PreviewStream, stream_info: StreamInfo) -> None:
        self._socket = socket
        self._stream = stream
        self._stream_info = stream_info
        self._options = {option.label: option for option in stream_info.engines}
        self._frame_requested = anyio.Event()
        self._snapshot_requested = anyio.Event()
        self._statistics_requested = anyio.Event()
        self._arrived = anyio.Event()
        self._sent: PreviewFrame | None = None
        self._request_number = 0

    async def serve(self) -> None:
        """Serves the page until it is closed."""
        await self._socket.send_text(self._stream_info.message)
        event_loop = asyncio.get_running_loop()

        def on_frame() -> None:
            with suppress(RuntimeError):  # the event loop is closed while the server shuts down
                event_loop.call_soon_threadsafe(lambda: self._arrived.set())

        stop_listening = self._stream.listen(on_frame)
        work = (self._send_frames, self._send_snapshots, self._send_statistics, self._receive_requests)
        try:
            async with anyio.create_task_group() as tasks:
                for each in work:
                    tasks.start_soon(self._until_closed, each, tasks)
        finally:
            stop_listening()

    async def _until_closed(self, work: Callable[[], Awaitable[None]], tasks: TaskGroup) -> None:
        """Cancels all tasks when one of them notices that the page was closed."""
        with suppress(WebSocketDisconnect, RuntimeError):  # starlette raises either when the connection is closed
            await work()
        tasks.cancel_scope.cancel()

    async def _send_frames(self) -> None:
        while True:
            await self._frame_requested.wait()
            self._frame_requested = anyio.Event()
            frame = await self._next_frame()
            # The first viewer of a frame encodes it, which takes milliseconds and must not block the event loop.
            message = await to_thread.run_sync(frame.encoded)
            self._sent = frame
            await self._socket.send_bytes(message)

    async def _next_frame(self) -> PreviewFrame:
        last_number = -1 if self._sent is None else self._sent.number
        while True:
            # A new event before the check: a frame that arrives between the check and the wait sets it, so the wait
            # cannot miss it.
            arrived = self._arrived = anyio.Event()
            frame = self._stream.newest(last_number)
            if frame is not None:
                return frame
            await arrived.wait()

    async def _send_snapshots(self) -> None:
        """Sends the frame that the page shows, as files. A request before the first frame has no answer."""
        while True:
            await self._snapshot_requested.wait()
            self._snapshot_requested = anyio.Event()
            if self._sent is not None:
                await self._socket.send_bytes(await to_thread.run_sync(self._sent.snapshot))

    async def _send_statistics(self) -> None:
        """Sends the statistics regularly and after each request, with the number of the last one that they include."""
        while True:
            requested = self._statistics_requested = anyio.Event()
            statistics = {**self._stream.statistics(), "request_number": self._request_number}
            await self._socket.send_text(json.dumps(statistics))
            with anyio.move_on_after(_STATISTICS_INTERVAL_S):
                await requested.wait()

    async def _receive_requests(self) -> None:
        while (text := await self._receive_text()) is not None:
            request = _parse_request(text)
            if request is None:
                await self._socket.close(_MALFORMED, "requests are JSON objects")
                return
            if request.get("request") == "frame":
                self._frame_requested.set()
            elif request.get("request") == "snapshot":
                self._snapshot_requested.set()
            elif request.get("request") == "engines":
                self._request_engines(request)
                self._answer(request)
            elif request.get("request") == "controls":
                self._request_controls(request)
                self._answer(request)

    def _answer(self, request: Mapping[str, object]) -> None:
        """Sends the statistics soon, with the number of the request that they include."""
        number = request.get("request_number")
        self._request_number = number if isinstance(number, int) else self._request_number
        self._statistics_requested.set()

    def _request_engines(self, request: Mapping[str, object]) -> None:
        """Passes on which engines a page requests; a request that names none, or an unknown one, is ignored."""
        labels = request.get("engines")
        options = [self._options.get(str(label)) for label in labels] if isinstance(labels, list) else []
        known = [option for option in options if option is not None]
        if len(known) == len(options) and 1 <= len(options) <= MAX_ENGINES:
            self._stream.request_engines(known)

    def _request_controls(self, request: Mapping[str, object]) -> None:
        """Sets the controls that a page requests; values that the network refuses are ignored."""
        values = request.get("controls")
        if isinstance(values, dict):
            with suppress(UsageError):
                self._stream.set_controls(values)

    async def _receive_text(self) -> str | None:
        """The next message; None if the connection was closed, which it is after a binary message."""
        message = await self._socket.receive()
        text = message.get("text")
        if message["type"] == "websocket.receive" and text is None:
            await self._socket.close(_NOT_TEXT, "messages are text")
        return text


def _parse_request(text: str) -> dict[str, object] | None:
    """The request of a page; None if it is not a JSON object."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def listening_socket(host: str, port: int) -> socket.socket:
    """Opens a listening socket; port 0 selects a free port.

    Raises:
        StreamError: The address cannot be used.
    """
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
    """The reason as the system gives it; Python adds the address to the text of some errors."""
    is_name_error = isinstance(error, socket.gaierror) or error.errno is None
    return str(error.strerror or error) if is_name_error else os.strerror(error.errno or 0)


def server_for(app: Starlette) -> uvicorn.Server:
    """A server whose `run(sockets=[...])` returns after a signal, or when `should_exit` is set."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=_MAX_MESSAGE_BYTES,
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
        )
    )

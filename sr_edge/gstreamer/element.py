"""The element `sredge`: an input queue that drops frames by the policy, the upscaling transform, and an output queue.

    sink -> queue -> UpscalingTransform -> queue -> src

The queues are GStreamer's own: they block, displace old frames and flush. Each of them starts a thread, so the
elements upstream continue while the network runs, and the network continues while a sink waits for the time of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from sr_edge.camera.sources.gst.bindings import GLib, GObject, Gst, GstVideo
from sr_edge.errors import SrEdgeError
from sr_edge.gstreamer.frame_counters import (
    FrameCounters,
    earliest_after_qos,
    is_significant_increase,
    latency_ns,
    reaches_power_of_ten,
)
from sr_edge.gstreamer.transform import TEMPLATES, UpscalingTransform
from sr_edge.installation import how_to_install

if TYPE_CHECKING:
    from sr_edge.camera.flow.drop_policy import Policy
    from sr_edge.gstreamer.network import GstUpscaler, NetworkSettings

MAX_FAILURES_IN_A_ROW = 10
"""After so many frames in a row that cannot be upscaled, the stream ends."""
_QUEUE_FRAMES = {"latest": 1, "block": 2, "drop-late": 64}
_LEAKY_NO, _LEAKY_DOWNSTREAM = 0, 2
"""Values of the property `leaky` of a queue: a full queue blocks, or drops its oldest frame."""


def _counter_property(blurb: str) -> Callable[[Callable[[SrEdge], int]], GObject.Property]:
    """A read-only property of the element."""
    return partial(GObject.Property, type=GObject.TYPE_UINT64, flags=GObject.ParamFlags.READABLE, blurb=blurb)


def _engine_property(getter: Callable[[SrEdge], str]) -> GObject.Property:
    """A read-only property of the element."""
    return GObject.Property(
        getter=getter,
        type=str,
        flags=GObject.ParamFlags.READABLE,
        nick="Engine",
        blurb="The runtime and precision that run, and why; empty until the element has started",
    )


class SrEdge(Gst.Bin):  # type: ignore[misc]  # the bindings have no types
    """Super-resolution of raw video. The properties are read when the element starts.

    Several threads call it: upstream's (`_on_frame`), that of the input queue (the callbacks of the transform), and
    those downstream (queries and QoS events). `FrameCounters` has its own lock, and `_policy` is set before the first
    frame enters the input queue. The other attributes are replaced by single assignments; a thread that still reads the
    old value decides as it would have for the frame before.
    """

    __gtype_name__ = "GstSrEdge"
    __gstmetadata__ = (
        "Super-resolution",
        "Filter/Effect/Video",
        "Upscales video with a network that `sr-edge deploy` wrote",
        "sr_edge",
    )
    __gsttemplates__ = TEMPLATES

    model = GObject.Property(type=str, default="", nick="Model", blurb="A .sredge folder or its .zip, or an ONNX file")
    runtime = GObject.Property(
        type=str,
        default="",
        nick="Runtime",
        blurb="openvino, onnxruntime, tensorrt ...; empty: the recommended, or the first available",
    )
    precision = GObject.Property(
        type=str,
        default="auto",
        nick="Precision",
        blurb="fp32, bf16, fp16 or int8; auto: what deploy or bench recommended here, or fp32, and fp16 on a GPU",
    )
    float_precision = GObject.Property(
        type=str,
        default="",
        nick="Float precision",
        blurb="Precision of the operators that are not INT8, with precision=int8; empty: fp32",
    )
    device = GObject.Property(type=str, default="", nick="Device", blurb="Name in the runtime; empty: its default")
    threads = GObject.Property(
        type=int, default=0, minimum=0, maximum=4096, nick="Threads", blurb="0: the runtime chooses"
    )
    reuse = GObject.Property(
        type=str,
        default="exact",
        nick="Reuse",
        blurb="Tiles that are not computed again for the next frame: off: none, exact: those that did not change, a "
        "number: also those that changed so little that at most so many decibels of PSNR are lost",
    )
    reuse_memory = GObject.Property(
        type=str,
        default="256M",
        nick="Reuse memory",
        blurb="Memory for the tiles that are kept for reuse; if the tiles of one frame need more, none are reused",
    )
    reuse_refresh = GObject.Property(
        type=float,
        default=10.0,
        minimum=0.0,
        nick="Reuse refresh",
        blurb="With a number for reuse: seconds after which the kept result of a changed tile is computed again",
    )
    nv12 = GObject.Property(
        type=bool,
        default=False,
        nick="NV12",
        blurb="Convert NV12 and I420 frames in the graph of a bundle that was deployed with --io nv12",
    )
    policy = GObject.Property(
        type=str,
        default="",
        nick="Policy",
        blurb="Which frames are dropped if they arrive too fast: latest, block, or drop-late:MS; empty: latest for a "
        "live source, otherwise block",
    )

    rate = GObject.Property(
        type=str,
        default="",
        nick="Rate",
        blurb="Frames per second for video whose caps have no frame rate (0/1), for example 30 or 30000/1001; empty: "
        "none",
    )

    def __init__(self) -> None:
        super().__init__()
        self._reset()
        self._input_queue = Gst.ElementFactory.make("queue", "input_queue")
        self._transform = UpscalingTransform(self)
        self._transform.set_name("network")
        self._output_queue = Gst.ElementFactory.make("queue", "output_queue")
        _set_queue_limits(self._output_queue, buffers=1)
        for element in (self._input_queue, self._transform, self._output_queue):
            self.add(element)
        self._input_queue.link(self._transform)
        self._transform.link(self._output_queue)
        self._add_pads()

    def _reset(self) -> None:
        self._counters = FrameCounters(max(_QUEUE_FRAMES.values()))
        self._policy: Policy | None = None
        self._has_failed = False
        self._reported_dropped = 0
        self._reported_latency_ns = 0
        self._interval_ms = 0.0
        self._earliest_ns = 0
        self._engine = ""
        self._tiles = self._reused_tiles = 0
        self._obstacle = ""

    def _add_pads(self) -> None:
        queue_sink, queue_source = self._input_queue.get_static_pad("sink"), self._output_queue.get_static_pad("src")
        queue_sink.add_probe(Gst.PadProbeType.BUFFER, self._on_frame)
        sink, source = (
            Gst.GhostPad.new_from_template(template.name_template, pad, template)
            for template, pad in zip(TEMPLATES, (queue_sink, queue_source), strict=True)
        )
        sink.set_query_function_full(self._on_sink_query)
        source.set_query_function_full(self._on_source_query)
        self.add_pad(sink)
        self.add_pad(source)

    @_counter_property("Frames that arrived")
    def frames_in(self) -> int:
        return self._counters.received

    @_counter_property("Frames that were upscaled")
    def frames_out(self) -> int:
        return self._counters.delivered

    @_counter_property("Frames that the policy dropped; exact at the end of the stream")
    def dropped(self) -> int:
        return self._counters.dropped

    @_counter_property("Frames that could not be upscaled")
    def failed(self) -> int:
        return self._counters.failed

    @_counter_property("Tiles of the frames that were upscaled; 0 with reuse=off")
    def tiles(self) -> int:
        return self._tiles

    @_counter_property("Tiles that were not computed again, because they did not change")
    def reused_tiles(self) -> int:
        return self._reused_tiles

    @_engine_property
    def engine(self) -> str:
        return self._engine

    def network_settings(self) -> NetworkSettings:
        """Parses the policy and returns the other properties; called when the element starts.

        Raises:
            UsageError: The policy is unknown.
        """
        from sr_edge.camera.flow.drop_policy import Policy
        from sr_edge.gstreamer.network import NetworkSettings

        self._reset()
        self._policy = Policy.parse(self.policy) if self.policy else None
        if self._policy is not None:
            self._configure_queue(self._policy)
        return NetworkSettings(
            self.model,
            self.runtime,
            self.precision,
            self.float_precision,
            self.device,
            self.threads,
            self.reuse,
            self.reuse_memory,
            self.reuse_refresh,
            self.nv12,
        )

    def own_rate(self) -> Fraction | None:
        """Parses the property `rate`.

        Raises:
            UsageError: It is not a frame rate.
        """
        if not self.rate:
            return None
        from sr_edge.camera.sources.ffmpeg import frame_rate

        return frame_rate(self.rate)

    def on_engine(self, text: str) -> None:
        self._engine = text

    def on_event(self, text: str) -> None:
        self._post(Gst.MessageType.WARNING, text)

    def on_tiles(self, text: str) -> None:
        self._post(Gst.MessageType.INFO, text)

    def on_caps(self, processing_ms: float, interval_ms: float) -> None:
        self._interval_ms = interval_ms
        self._counters.set_processing_ms(processing_ms)
        self._report_latency(processing_ms)

    def accepts(self, pts: int, running_ns: int) -> bool:
        self._counters.dequeue(pts)
        is_late = self._is_late(running_ns)
        if is_late:
            self._counters.refuse()
        self._report_dropped(running_ns)
        return not is_late

    def on_upscaled(self, processing_ms: float, network: GstUpscaler) -> None:
        self._counters.deliver(processing_ms)
        self._report_latency(self._counters.processing_ms)
        self._tiles, self._reused_tiles = network.tiles, network.reused_tiles
        obstacle, self._obstacle = self._obstacle, network.obstacle
        if self._obstacle and self._obstacle != obstacle:
            self._post(Gst.MessageType.WARNING, f"no tiles are reused: {self._obstacle} (reuse-memory)")

    def continues_after(self, error: SrEdgeError) -> bool:
        self._counters.fail()
        if self._counters.failed_in_a_row >= MAX_FAILURES_IN_A_ROW:
            problem = f"{MAX_FAILURES_IN_A_ROW} frames in a row could not be upscaled, the last error: {error.problem}"
            self.fail(SrEdgeError(problem, found=error.found, wanted=error.wanted, remedy=error.remedy))
            return False
        if reaches_power_of_ten(self._counters.failed - 1, self._counters.failed):
            self._post(
                Gst.MessageType.WARNING,
                f"{self._counters.failed} frames could not be upscaled, the last error: {error}",
            )
        return True

    def forwards_upstream(self, event: Gst.Event) -> bool:
        """Stores QoS events of a sink instead of forwarding them: a decoder would drop frames that no one counts."""
        if event.type != Gst.EventType.QOS:
            return True
        _, _, lateness_ns, timestamp_ns = event.parse_qos()
        if timestamp_ns != Gst.CLOCK_TIME_NONE:
            self._earliest_ns = earliest_after_qos(timestamp_ns, lateness_ns)
        return False

    def on_end(self) -> None:
        if self._has_failed:
            return
        self._counters.end()
        if self._counters.dropped or self._counters.failed:
            self._post(Gst.MessageType.WARNING, self._counters.summary(str(self._policy)))

    def on_flush(self) -> None:
        self._counters.flush()
        self._earliest_ns = 0

    def fail(self, error: Exception) -> None:
        self._has_failed = True
        text = str(error) if isinstance(error, SrEdgeError) else _unexpected_error_text(error)
        self._post(Gst.MessageType.ERROR, " ".join(text.split()))

    def _on_frame(self, pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        if self._policy is None:
            from sr_edge.camera.flow.drop_policy import policy_for

            self._policy = policy_for(_is_live(pad))
            self._configure_queue(self._policy)
        self._counters.receive(info.get_buffer().pts)
        return Gst.PadProbeReturn.OK

    def _configure_queue(self, policy: Policy) -> None:
        """Sets how many frames can wait, and whether a full queue blocks or drops its oldest frame."""
        _set_queue_limits(self._input_queue, _QUEUE_FRAMES[policy.dropping], round(1e6 * (policy.deadline_ms or 0)))
        self._input_queue.set_property("leaky", _LEAKY_NO if policy.dropping == "block" else _LEAKY_DOWNSTREAM)

    def _on_sink_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        """Announces support for GstVideoMeta, so that upstream elements need not copy padded planes."""
        is_answered = bool(Gst.Pad.query_default(pad, parent, query))
        if is_answered and query.type == Gst.QueryType.ALLOCATION:
            query.add_allocation_meta(GstVideo.video_meta_api_get_type(), None)
        return is_answered

    def _on_source_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type != Gst.QueryType.LATENCY:
            return bool(Gst.Pad.query_default(pad, parent, query))
        if not self._output_queue.get_static_pad("src").query(query):
            return False
        is_live, min_ns, max_ns = query.parse_latency()
        max_ns = max_ns if max_ns == Gst.CLOCK_TIME_NONE else max_ns + self._reported_latency_ns
        query.set_latency(is_live, min_ns + self._reported_latency_ns, max_ns)
        return True

    def _report_latency(self, processing_ms: float) -> None:
        now_ns = latency_ns(processing_ms, self._interval_ms)
        if is_significant_increase(self._reported_latency_ns, now_ns):
            self._reported_latency_ns = now_ns
            self.post_message(Gst.Message.new_latency(self))

    def _is_late(self, running_ns: int) -> bool:
        deadline_ms = self._policy.deadline_ms if self._policy else None
        if deadline_ms is None or running_ns == Gst.CLOCK_TIME_NONE:
            return False
        if running_ns < self._earliest_ns:
            return True
        clock = self.get_clock()
        if clock is None or self.current_state != Gst.State.PLAYING:
            return False
        return bool(clock.get_time() - self.get_base_time() - running_ns > 1e6 * deadline_ms)

    def _report_dropped(self, running_ns: int) -> None:
        """Posts a QoS message whenever frames were dropped, and a warning at 1, 10, 100 ... dropped frames."""
        dropped = self._counters.dropped
        if reaches_power_of_ten(self._reported_dropped, dropped):
            self._post(Gst.MessageType.WARNING, self._counters.summary(str(self._policy)))
        if dropped > self._reported_dropped:
            none = Gst.CLOCK_TIME_NONE
            message = Gst.Message.new_qos(self, False, running_ns, none, none, none)
            message.set_qos_stats(Gst.Format.BUFFERS, self._counters.delivered, dropped)
            self.post_message(message)
            self._reported_dropped = dropped

    def _post(self, kind: Gst.MessageType, text: str) -> None:
        error = GLib.Error.new_literal(Gst.StreamError.quark(), text, int(Gst.StreamError.FAILED))
        if kind == Gst.MessageType.INFO:
            message = Gst.Message.new_info(self, error, text)  # gst-launch-1.0 prints the second text, and only that
        else:
            new = Gst.Message.new_error if kind == Gst.MessageType.ERROR else Gst.Message.new_warning
            message = new(self, error, "")
        self.post_message(message)


def _set_queue_limits(queue: Gst.Element, buffers: int, time_ns: int = 0) -> None:
    """Limits the number of frames, and their total duration unless it is 0."""
    queue.set_property("max-size-buffers", buffers)
    queue.set_property("max-size-time", time_ns)
    queue.set_property("max-size-bytes", 0)


def _is_live(pad: Gst.Pad) -> bool:
    query = Gst.Query.new_latency()
    return bool(pad.peer_query(query) and query.parse_latency()[0])


def _unexpected_error_text(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the Python package {error.name} is not installed in the environment of sr-edge; "
            f"run: {how_to_install('camera', 'openvino')}"
        )
    return f"unexpected {type(error).__name__}: {error}; this is a bug in sr-edge, please report it"

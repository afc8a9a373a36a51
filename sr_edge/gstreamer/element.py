"""The element `sredge`: an inbox that drops by the policy, then the network, then a place for what it made.

    sink -> queue -> UpscalingTransform -> queue -> src

GStreamer's own queues wait, displace old frames, flush and keep upstream going while the network works, and the network
while a sink waits for the time at which it is to show a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sr_edge.errors import SrEdgeError
from sr_edge.gstreamer.bindings import GLib, GObject, Gst, GstVideo
from sr_edge.gstreamer.tally import FrameCounters, earliest_after_qos, is_notable, latency_ns, reaches_round
from sr_edge.gstreamer.transform import TEMPLATES, UpscalingTransform

if TYPE_CHECKING:
    from sr_edge.camera.policy import Policy
    from sr_edge.gstreamer.network import NetworkSettings

FAILURES_IN_A_ROW = 10
"""So many frames that cannot be enlarged end the stream."""
_MOST_WAITING = {"latest": 1, "block": 2, "drop-late": 64}
_KEEP_OLD, _DISPLACE_OLD = 0, 2
"""Of the queue's property `leaky`."""


def _count(blurb: str) -> Callable[[Callable[[SrEdge], int]], GObject.Property]:
    """A property that can only be read."""
    return partial(GObject.Property, type=GObject.TYPE_UINT64, flags=GObject.ParamFlags.READABLE, blurb=blurb)


class SrEdge(Gst.Bin):  # type: ignore[misc]  # the bindings have no types
    """Super-resolution of raw video. Properties are read when the element starts."""

    __gtype_name__ = "GstSrEdge"
    __gstmetadata__ = (
        "Super-resolution",
        "Filter/Effect/Video",
        "Enlarges video by a network that `sr-edge deploy` wrote",
        "sr_edge",
    )
    __gsttemplates__ = TEMPLATES

    model = GObject.Property(type=str, default="", nick="Model", blurb="A .sredge folder or its .zip")
    runtime = GObject.Property(
        type=str, default="", nick="Runtime", blurb="openvino, onnxruntime, tensorrt ...; empty: the first that works"
    )
    precision = GObject.Property(type=str, default="fp32", nick="Precision", blurb="fp32, bf16, fp16 or int8")
    float_precision = GObject.Property(
        type=str, default="fp32", nick="Float precision", blurb="Precision of all else in an int8 network"
    )
    device = GObject.Property(type=str, default="", nick="Device", blurb="By the runtime's own name; empty: its usual")
    threads = GObject.Property(
        type=int, default=0, minimum=0, maximum=4096, nick="Threads", blurb="0: the runtime chooses"
    )
    policy = GObject.Property(
        type=str,
        default="",
        nick="Policy",
        blurb="What becomes of frames that come too fast: latest, block, or drop-late:MS; empty: latest behind a live "
        "source, else block",
    )

    def __init__(self) -> None:
        super().__init__()
        self._forget_last_run()
        self._inbox = Gst.ElementFactory.make("queue", "inbox")
        self._transform = UpscalingTransform(self)
        self._transform.set_name("network")
        self._outbox = Gst.ElementFactory.make("queue", "outbox")
        _set_room(self._outbox, buffers=1)
        for element in (self._inbox, self._transform, self._outbox):
            self.add(element)
        self._inbox.link(self._transform)
        self._transform.link(self._outbox)
        self._add_pads()

    def _forget_last_run(self) -> None:
        self._counters = FrameCounters(max(_MOST_WAITING.values()))
        self._policy: Policy | None = None
        self._has_failed = False
        self._told_dropped = 0
        self._latency_ns = 0
        self._interval_ms = 0.0
        self._earliest_ns = 0

    def _add_pads(self) -> None:
        entry, exit_ = self._inbox.get_static_pad("sink"), self._outbox.get_static_pad("src")
        entry.add_probe(Gst.PadProbeType.BUFFER, self._on_frame)
        sink, source = (
            Gst.GhostPad.new_from_template(template.name_template, pad, template)
            for template, pad in zip(TEMPLATES, (entry, exit_), strict=True)
        )
        sink.set_query_function_full(self._on_sink_query)
        source.set_query_function_full(self._on_source_query)
        self.add_pad(sink)
        self.add_pad(source)

    @_count("Frames that came")
    def frames_in(self) -> int:
        return self._counters.entered

    @_count("Frames that were enlarged")
    def frames_out(self) -> int:
        return self._counters.delivered

    @_count("Frames that the policy left out; exact at the end")
    def dropped(self) -> int:
        return self._counters.dropped

    @_count("Frames that the runtime could not enlarge")
    def failed(self) -> int:
        return self._counters.failed

    def network_settings(self) -> NetworkSettings:
        """Checked as the element starts; raises UsageError for a policy that is none."""
        from sr_edge.camera.policy import Policy
        from sr_edge.gstreamer.network import NetworkSettings

        self._forget_last_run()
        self._policy = Policy.parse(self.policy) if self.policy else None
        if self._policy is not None:
            self._set_inbox(self._policy)
        return NetworkSettings(
            self.model, self.runtime, self.precision, self.float_precision, self.device, self.threads
        )

    def on_caps(self, work_ms: float, interval_ms: float) -> None:
        self._interval_ms = interval_ms
        self._counters.take_work_ms(work_ms)
        self._tell_latency(work_ms)

    def wants(self, pts: int, running_ns: int) -> bool:
        self._counters.arrive(pts)
        is_late = self._is_late(running_ns)
        if is_late:
            self._counters.refuse()
        self._tell_dropped(running_ns)
        return not is_late

    def on_upscaled(self, work_ms: float) -> None:
        self._counters.deliver(work_ms)
        self._tell_latency(self._counters.work_ms)

    def goes_on_after(self, error: SrEdgeError) -> bool:
        self._counters.fail()
        if self._counters.failed_in_a_row >= FAILURES_IN_A_ROW:
            problem = f"{FAILURES_IN_A_ROW} frames in a row could not be upscaled, the last error: {error.problem}"
            self.fail(SrEdgeError(problem, found=error.found, wanted=error.wanted, remedy=error.remedy))
            return False
        if reaches_round(self._counters.failed - 1, self._counters.failed):
            self._post(
                Gst.MessageType.WARNING,
                f"{self._counters.failed} frames could not be upscaled, the last error: {error}",
            )
        return True

    def passes_upstream(self, event: Gst.Event) -> bool:
        """Not what a sink finds late, which is noted: a decoder that hears of it drops frames that nobody counts."""
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
            self._post(Gst.MessageType.WARNING, self._counters.sentence(str(self._policy)))

    def on_flush(self) -> None:
        self._counters.flush()
        self._earliest_ns = 0

    def fail(self, error: Exception) -> None:
        self._has_failed = True
        text = str(error) if isinstance(error, SrEdgeError) else _explained(error)
        self._post(Gst.MessageType.ERROR, " ".join(text.split()))

    def _on_frame(self, pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        if self._policy is None:
            from sr_edge.camera.policy import policy_for

            self._policy = policy_for(_is_live(pad))
            self._set_inbox(self._policy)
        self._counters.enter(info.get_buffer().pts)
        return Gst.PadProbeReturn.OK

    def _set_inbox(self, policy: Policy) -> None:
        """How many frames may wait, and whether a newer one displaces the oldest."""
        _set_room(self._inbox, _MOST_WAITING[policy.dropping], round(1e6 * (policy.deadline_ms or 0)))
        self._inbox.set_property("leaky", _KEEP_OLD if policy.dropping == "block" else _DISPLACE_OLD)

    def _on_sink_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        """Offers to take planes wherever they lie, so that decoders and cameras need not copy them together."""
        answered = bool(Gst.Pad.query_default(pad, parent, query))
        if answered and query.type == Gst.QueryType.ALLOCATION:
            query.add_allocation_meta(GstVideo.video_meta_api_get_type(), None)
        return answered

    def _on_source_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type != Gst.QueryType.LATENCY:
            return bool(Gst.Pad.query_default(pad, parent, query))
        if not self._outbox.get_static_pad("src").query(query):
            return False
        is_live, least_ns, most_ns = query.parse_latency()
        most_ns = most_ns if most_ns == Gst.CLOCK_TIME_NONE else most_ns + self._latency_ns
        query.set_latency(is_live, least_ns + self._latency_ns, most_ns)
        return True

    def _tell_latency(self, work_ms: float) -> None:
        now_ns = latency_ns(work_ms, self._interval_ms)
        if is_notable(self._latency_ns, now_ns):
            self._latency_ns = now_ns
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

    def _tell_dropped(self, running_ns: int) -> None:
        """A QoS message for programs whenever frames were dropped, a warning for people at 1, 10, 100 ... of them."""
        dropped = self._counters.dropped
        if reaches_round(self._told_dropped, dropped):
            self._post(Gst.MessageType.WARNING, self._counters.sentence(str(self._policy)))
        if dropped > self._told_dropped:
            unknown = Gst.CLOCK_TIME_NONE
            message = Gst.Message.new_qos(self, False, running_ns, unknown, unknown, unknown)
            message.set_qos_stats(Gst.Format.BUFFERS, self._counters.delivered, dropped)
            self.post_message(message)
            self._told_dropped = dropped

    def _post(self, kind: Gst.MessageType, text: str) -> None:
        error = GLib.Error.new_literal(Gst.StreamError.quark(), text, int(Gst.StreamError.FAILED))
        new = Gst.Message.new_error if kind == Gst.MessageType.ERROR else Gst.Message.new_warning
        self.post_message(new(self, error, ""))


def _set_room(queue: Gst.Element, buffers: int, time_ns: int = 0) -> None:
    """A time of 0 is no limit."""
    queue.set_property("max-size-buffers", buffers)
    queue.set_property("max-size-time", time_ns)
    queue.set_property("max-size-bytes", 0)


def _is_live(pad: Gst.Pad) -> bool:
    query = Gst.Query.new_latency()
    return bool(pad.peer_query(query) and query.parse_latency()[0])


def _explained(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the Python package {error.name} is absent where sr-edge is installed; "
            'run: pip install "sr-edge[camera,openvino]"'
        )
    return f"unexpected {type(error).__name__}: {error}; this is a fault of sr-edge, please report it"

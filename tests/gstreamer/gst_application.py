"""A GStreamer application for the system's Python: runs a pipeline and prints the outcome as JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

TIMEOUT_NS = 100 * 10**9
MAX_HOLD_S = 20
READ_ONLY = ("frames-in", "frames-out", "dropped", "failed", "tiles", "reused-tiles", "engine")


class SlowSink:
    """Makes the sink named `held` report the first frame as late and hold it until sredge0 has upscaled another one.

    It also observes whether the element named `before` receives the QoS event.
    """

    def __init__(self, pipeline: Any) -> None:
        self.observations: dict[str, object] = {"upscaled_while_held": False, "qos_received": False}
        self._element, held, before = (pipeline.get_by_name(name) for name in ("sredge0", "held", "before"))
        if held:
            held.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self._hold)
        if before:
            before.get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self._on_upstream_event)

    def _hold(self, pad: Any, info: Any) -> Any:
        pad.push_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 1, info.get_buffer().pts))
        until_s = time.monotonic() + MAX_HOLD_S
        while not self.observations["upscaled_while_held"] and time.monotonic() < until_s:
            self.observations["upscaled_while_held"] = self._element.get_property("frames-out") > 1
            time.sleep(0.002)
        return Gst.PadProbeReturn.REMOVE

    def _on_upstream_event(self, pad: Any, info: Any) -> Any:
        self.observations["qos_received"] |= info.get_event().type == Gst.EventType.QOS
        return Gst.PadProbeReturn.OK


def recorded_pts(pipeline: Any, name: str, pad: str) -> list[int]:
    """A list that receives the pts in ns of each buffer at a pad of the element of that name, if there is one."""
    pts: list[int] = []
    element = pipeline.get_by_name(name)

    def record(_pad: Any, info: Any) -> Any:
        pts.append(info.get_buffer().pts)
        return Gst.PadProbeReturn.OK

    if element:
        element.get_static_pad(pad).add_probe(Gst.PadProbeType.BUFFER, record)
    return pts


def end_of(pipeline: Any) -> tuple[str, list[str], list[str]]:
    """Waits for the end of a running pipeline; the error that ended it or "", all warnings, and all information."""
    kinds = Gst.MessageType
    warnings: list[str] = []
    infos: list[str] = []
    wanted = kinds.EOS | kinds.ERROR | kinds.WARNING | kinds.INFO
    while message := pipeline.get_bus().timed_pop_filtered(TIMEOUT_NS, wanted):
        if message.type == kinds.WARNING:
            warnings.append(message.parse_warning()[0].message)
            continue
        if message.type == kinds.INFO:
            infos.append(message.parse_info()[0].message)
            continue
        return message.parse_error()[0].message if message.type == kinds.ERROR else "", warnings, infos
    raise SystemExit("the pipeline neither ended nor failed")


def caps_of(pipeline: Any, name: str, pad: str) -> str:
    """The caps that were negotiated on a pad of the element of that name; empty without element or caps."""
    element = pipeline.get_by_name(name)
    caps = element.get_static_pad(pad).get_current_caps() if element else None
    return caps.to_string() if caps else ""


def run(description: str) -> dict[str, object]:
    """Runs a pipeline to its end.

    Returns:
        The error that ended it or "", the warnings, the information, the latency at the end in ns, the read-only
        properties of the element named sredge0, the caps and the pts in ns at the elements named begin (its src pad)
        and end (its sink pad), and the observations of SlowSink.
    """
    pipeline = Gst.parse_launch(description)
    slow_sink = SlowSink(pipeline)
    ends = (("begin", "src"), ("end", "sink"))
    pts = {pad: recorded_pts(pipeline, name, pad) for name, pad in ends}
    pipeline.set_state(Gst.State.PLAYING)
    error, warnings, infos = end_of(pipeline)
    latency = Gst.Query.new_latency()
    pipeline.query(latency)
    element = pipeline.get_by_name("sredge0")
    properties = {name: element.get_property(name) for name in READ_ONLY} if element else {}
    caps = {pad: caps_of(pipeline, name, pad) for name, pad in ends}
    pipeline.set_state(Gst.State.NULL)
    return {
        "error": error,
        "warnings": warnings,
        "infos": infos,
        "latency_ns": latency.parse_latency()[1],
        **properties,
        "caps": caps,
        "pts": pts,
        **slow_sink.observations,
    }


Gst.init(None)
sys.stdout.write(json.dumps(run(sys.argv[1])))

"""An application of GStreamer, run by the system's Python: runs a pipeline and prints what became of it as JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

LIMIT_NS = 100 * 10**9
HELD_S = 20
COUNTS = ("frames-in", "frames-out", "dropped", "failed")


class SlowSink:
    """Finds the first frame late and holds it until sredge0 has enlarged another; `before` hears of what is late."""

    def __init__(self, pipeline: Any) -> None:
        self.observations: dict[str, object] = {"another_while_held": False, "lateness_heard": False}
        self._element, held, before = (pipeline.get_by_name(name) for name in ("sredge0", "held", "before"))
        if held:
            held.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self._hold)
        if before:
            before.get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self._hear)

    def _hold(self, pad: Any, info: Any) -> Any:
        pad.push_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 1, info.get_buffer().pts))
        until_s = time.monotonic() + HELD_S
        while not self.observations["another_while_held"] and time.monotonic() < until_s:
            self.observations["another_while_held"] = self._element.get_property("frames-out") > 1
            time.sleep(0.002)
        return Gst.PadProbeReturn.REMOVE

    def _hear(self, pad: Any, info: Any) -> Any:
        self.observations["lateness_heard"] |= info.get_event().type == Gst.EventType.QOS
        return Gst.PadProbeReturn.OK


def run(description: str) -> dict[str, object]:
    """The error that ended it or "", latency at the end (ns), the counts of the element named sredge0; of SlowSink."""
    pipeline = Gst.parse_launch(description)
    slow_sink = SlowSink(pipeline)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(LIMIT_NS, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    if message is None:
        raise SystemExit("the pipeline neither ended nor failed")
    error = message.parse_error()[0].message if message.type == Gst.MessageType.ERROR else ""
    latency = Gst.Query.new_latency()
    pipeline.query(latency)
    element = pipeline.get_by_name("sredge0")
    counts = {name: element.get_property(name) for name in COUNTS} if element else {}
    pipeline.set_state(Gst.State.NULL)
    return {"error": error, "latency_ns": latency.parse_latency()[1], **counts, **slow_sink.observations}


Gst.init(None)
sys.stdout.write(json.dumps(run(sys.argv[1])))

"""An application of GStreamer, run by the system's Python: runs a pipeline and prints what became of it as JSON."""

from __future__ import annotations

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

LIMIT_NS = 100 * 10**9
COUNTS = ("frames-in", "frames-out", "dropped", "failed")


def run(description: str) -> dict[str, object]:
    """The error that ended it or "", latency at the end (ns), and the counts of the element named sredge0."""
    pipeline = Gst.parse_launch(description)
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
    return {"error": error, "latency_ns": latency.parse_latency()[1], **counts}


Gst.init(None)
sys.stdout.write(json.dumps(run(sys.argv[1])))

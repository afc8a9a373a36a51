"""The inner element: caps, and one buffer after another through the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from sr_edge.errors import SrEdgeError
from sr_edge.gstreamer.bindings import Gst, GstBase, GstVideo
from sr_edge.gstreamer.caps import source_caps, template_caps, upscaled_caps

if TYPE_CHECKING:
    from sr_edge.gstreamer.network import GstUpscaler, NetworkSettings
    from sr_edge.gstreamer.planes import BufferLayout

_DROPPED = Gst.FlowReturn.CUSTOM_SUCCESS
"""GST_BASE_TRANSFORM_FLOW_DROPPED, which is a macro."""


def _template(name: str, direction: Gst.PadDirection) -> Gst.PadTemplate:
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, template_caps())


TEMPLATES = (_template("sink", Gst.PadDirection.SINK), _template("src", Gst.PadDirection.SRC))


class Owner(Protocol):
    """Who decides about frames, counts them and speaks to the pipeline."""

    def network_settings(self) -> NetworkSettings: ...

    def fail(self, error: Exception) -> None:
        """Ends the pipeline with this error."""
        ...

    def on_caps(self, work_ms: float, interval_ms: float) -> None:
        """A frame of the new caps takes `work_ms`; they come every `interval_ms`, 0 for no fixed rate."""
        ...

    def wants(self, pts: int, running_ns: int) -> bool:
        """Whether the frame of this pts and running time, whose turn has come, is to be enlarged."""
        ...

    def on_upscaled(self, work_ms: float) -> None: ...

    def goes_on_after(self, error: SrEdgeError) -> bool:
        """Whether the stream goes on without the frame that failed."""
        ...

    def passes_upstream(self, event: Gst.Event) -> bool: ...

    def on_end(self) -> None: ...

    def on_flush(self) -> None: ...


class UpscalingTransform(GstBase.BaseTransform):  # type: ignore[misc]  # the bindings have no types
    """GStreamer calls the methods do_*. Nobody catches what they raise, so nothing is."""

    __gtype_name__ = "GstSrEdgeTransform"
    __gstmetadata__ = ("Inside of sredge", "Filter/Effect/Video", "Enlarges frames one by one", "sr_edge")
    __gsttemplates__ = TEMPLATES

    _network: GstUpscaler
    """Open from start to stop."""
    _layouts: tuple[BufferLayout, BufferLayout]
    """Of what goes in and what comes out; from the caps on, which come before the first frame."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        self._scale: int | None = None

    def do_start(self) -> bool:
        try:
            from sr_edge.gstreamer.network import GstUpscaler

            self._network = GstUpscaler(self._owner.network_settings())
            self._scale = self._network.scale
        except KeyboardInterrupt:
            self._owner.fail(SrEdgeError("interrupted while the model was being loaded"))
            return False
        except Exception as error:
            self._owner.fail(error)
            return False
        return True

    def do_stop(self) -> bool:
        self._scale = None
        self._network.close()
        return True

    def do_transform_caps(self, direction: Gst.PadDirection, caps: Gst.Caps, filter: Gst.Caps | None) -> Gst.Caps:
        change = upscaled_caps if direction == Gst.PadDirection.SINK else source_caps
        changed = change(caps, self._scale)
        return filter.intersect_full(changed, Gst.CapsIntersectMode.FIRST) if filter else changed

    def do_get_unit_size(self, caps: Gst.Caps) -> tuple[bool, int]:
        info = GstVideo.VideoInfo.new_from_caps(caps)
        return (True, info.size) if info else (False, 0)

    def do_transform_size(
        self, direction: Gst.PadDirection, caps: Gst.Caps, size: int, others: Gst.Caps
    ) -> tuple[bool, int]:
        """One frame a buffer, however much room its planes have."""
        return self.do_get_unit_size(others)

    def do_set_caps(self, caps: Gst.Caps, upscaled: Gst.Caps) -> bool:
        from sr_edge.gstreamer.layout import frame_interval_ms, layout_from_caps

        try:
            self._layouts = layout_from_caps(caps), layout_from_caps(upscaled)
            self._owner.on_caps(self._network.warmed_up_ms(self._layouts[0]), frame_interval_ms(caps))
        except Exception as error:
            self._owner.fail(error)
            return False
        return True

    def do_transform(self, source: Gst.Buffer, out: Gst.Buffer) -> Gst.FlowReturn:
        try:
            if not self._owner.wants(source.pts, self.segment.to_running_time(Gst.Format.TIME, source.pts)):
                return _DROPPED
            started_s = time.perf_counter()
            self._upscale(source, out)
            self._owner.on_upscaled(1e3 * (time.perf_counter() - started_s))
        except SrEdgeError as error:
            return _DROPPED if self._owner.goes_on_after(error) else Gst.FlowReturn.ERROR
        except Exception as error:
            self._owner.fail(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def _upscale(self, source: Gst.Buffer, out: Gst.Buffer) -> None:
        from sr_edge.gstreamer.layout import layout_of_buffer

        small, large = self._layouts
        with source.map(Gst.MapFlags.READ) as read, out.map(Gst.MapFlags.WRITE) as written:
            self._network.upscale(
                read.data, layout_of_buffer(source, small), written.data, layout_of_buffer(out, large)
            )

    def do_src_event(self, event: Gst.Event) -> bool:
        if not self._owner.passes_upstream(event):
            return True
        return bool(GstBase.BaseTransform.do_src_event(self, event))

    def do_sink_event(self, event: Gst.Event) -> bool:
        if event.type == Gst.EventType.EOS:
            self._owner.on_end()
        elif event.type == Gst.EventType.FLUSH_STOP:
            self._owner.on_flush()
        return bool(GstBase.BaseTransform.do_sink_event(self, event))

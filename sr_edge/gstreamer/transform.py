"""The inner element, which converts caps and upscales one buffer after another."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from sr_edge.camera.sources.gst.bindings import Gst, GstBase, GstVideo
from sr_edge.errors import SrEdgeError, UsageError
from sr_edge.gstreamer.caps import source_caps, template_caps, upscaled_caps, with_rate, without_rate

if TYPE_CHECKING:
    from sr_edge.camera.sources.gst.planes import BufferLayout
    from sr_edge.gstreamer.network import GstUpscaler, NetworkSettings

_DROPPED = Gst.FlowReturn.CUSTOM_SUCCESS
"""GST_BASE_TRANSFORM_FLOW_DROPPED, a macro that the bindings lack."""


def _template(name: str, direction: Gst.PadDirection) -> Gst.PadTemplate:
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, template_caps())


TEMPLATES = (_template("sink", Gst.PadDirection.SINK), _template("src", Gst.PadDirection.SRC))


class TransformCallbacks(Protocol):
    """What the transform leaves to the outer element: properties, policy, counters and messages on the bus."""

    def network_settings(self) -> NetworkSettings: ...

    def own_rate(self) -> Fraction | None:
        """Frames per second for caps without a frame rate; None leaves such caps as they are."""
        ...

    def on_engine(self, text: str) -> None:
        """Called with the engine that was opened, and why it is this one."""
        ...

    def on_event(self, text: str) -> None:
        """Called with what a person should know about how frames are processed; posts it on the bus as a warning."""
        ...

    def on_tiles(self, text: str) -> None:
        """Called with the tiles that frames are cut into; posts it on the bus as information."""
        ...

    def fail(self, error: Exception) -> None:
        """Posts the error on the bus, which ends the pipeline."""
        ...

    def on_caps(self, processing_ms: float, interval_ms: float) -> None:
        """Called with the processing time of a frame of the new caps, and their interval (0: variable frame rate)."""
        ...

    def accepts(self, pts: int, running_ns: int) -> bool:
        """Whether to upscale the frame with this pts and running time, which has just left the input queue."""
        ...

    def on_upscaled(self, processing_ms: float, network: GstUpscaler) -> None:
        """Called after a frame with its processing time, and the network, which counts the tiles that were reused."""
        ...

    def continues_after(self, error: SrEdgeError) -> bool:
        """Whether the stream continues without the frame that failed."""
        ...

    def forwards_upstream(self, event: Gst.Event) -> bool: ...

    def on_end(self) -> None: ...

    def on_flush(self) -> None: ...


class UpscalingTransform(GstBase.BaseTransform):  # type: ignore[misc]  # the bindings have no types
    """A GstBaseTransform. GStreamer calls its do_* methods; they must not raise, because nothing catches it."""

    __gtype_name__ = "GstSrEdgeTransform"
    __gstmetadata__ = ("Inner element of sredge", "Filter/Effect/Video", "Upscales one frame at a time", "sr_edge")
    __gsttemplates__ = TEMPLATES

    _network: GstUpscaler
    """Set from start to stop."""
    _layouts: tuple[BufferLayout, BufferLayout]
    """Layouts of the input and output buffers; set by the caps, which precede the first frame."""

    def __init__(self, callbacks: TransformCallbacks) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._scale: int | None = None
        self._rate: Fraction | None = None
        self._frames = 0

    def do_start(self) -> bool:
        try:
            from sr_edge.gstreamer.network import GstUpscaler

            self._rate, self._frames = self._callbacks.own_rate(), 0
            self._network = GstUpscaler(
                self._callbacks.network_settings(), self._callbacks.on_event, self._callbacks.on_tiles
            )
            self._scale = self._network.scale
            self._callbacks.on_engine(str(self._network.engine))
        except KeyboardInterrupt:
            self._callbacks.fail(SrEdgeError("interrupted while the model was being loaded"))
            return False
        except Exception as error:
            self._callbacks.fail(error)
            return False
        return True

    def do_stop(self) -> bool:
        self._scale = None
        self._network.close()
        return True

    def do_transform_caps(self, direction: Gst.PadDirection, caps: Gst.Caps, filter: Gst.Caps | None) -> Gst.Caps:
        if direction == Gst.PadDirection.SINK:
            converted = with_rate(upscaled_caps(caps, self._scale), self._rate)
        else:
            converted = without_rate(source_caps(caps, self._scale), self._rate)
        return filter.intersect_full(converted, Gst.CapsIntersectMode.FIRST) if filter else converted

    def do_get_unit_size(self, caps: Gst.Caps) -> tuple[bool, int]:
        info = GstVideo.VideoInfo.new_from_caps(caps)
        return (True, info.size) if info else (False, 0)

    def do_transform_size(
        self, direction: Gst.PadDirection, caps: Gst.Caps, size: int, other_caps: Gst.Caps
    ) -> tuple[bool, int]:
        """The size of one frame: a buffer contains one, however much padding it has."""
        return self.do_get_unit_size(other_caps)

    def do_set_caps(self, caps: Gst.Caps, upscaled: Gst.Caps) -> bool:
        from sr_edge.camera.sources.gst.layout import frame_interval_ms, layout_from_caps

        try:
            self._layouts = layout_from_caps(caps), layout_from_caps(upscaled)
            if self._rate is not None and (interval_ms := frame_interval_ms(caps)):
                raise UsageError(
                    f"the video has a frame rate of {1e3 / interval_ms:g}, and rate={self._rate} would have no effect",
                    found=self._rate,
                    wanted=1e3 / interval_ms,
                    remedy="leave the property out; the element videorate converts the rate",
                )
            self._callbacks.on_caps(self._network.warmed_up_ms(self._layouts[0]), frame_interval_ms(upscaled))
        except Exception as error:
            self._callbacks.fail(error)
            return False
        return True

    def do_transform(self, source: Gst.Buffer, out: Gst.Buffer) -> Gst.FlowReturn:
        try:
            if not self._callbacks.accepts(source.pts, self.segment.to_running_time(Gst.Format.TIME, source.pts)):
                return _DROPPED
            started_s = time.perf_counter()
            self._upscale(source, out)
            self._place(out)
            self._callbacks.on_upscaled(1e3 * (time.perf_counter() - started_s), self._network)
        except SrEdgeError as error:
            return _DROPPED if self._callbacks.continues_after(error) else Gst.FlowReturn.ERROR
        except Exception as error:
            self._callbacks.fail(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def _upscale(self, source: Gst.Buffer, out: Gst.Buffer) -> None:
        from sr_edge.camera.sources.gst.layout import layout_of_buffer

        source_layout, out_layout = self._layouts
        with source.map(Gst.MapFlags.READ) as source_map, out.map(Gst.MapFlags.WRITE) as out_map:
            self._network.upscale(
                source_map.data,
                layout_of_buffer(source, source_layout),
                out_map.data,
                layout_of_buffer(out, out_layout),
                None if source.pts == Gst.CLOCK_TIME_NONE else source.pts,
            )

    def _place(self, out: Gst.Buffer) -> None:
        """Sets time and duration that the source did not give, by the rate of the element."""
        if self._rate is None:
            return
        if out.pts == Gst.CLOCK_TIME_NONE:
            out.pts = int(self._frames * Gst.SECOND / self._rate)
        if out.duration == Gst.CLOCK_TIME_NONE:
            out.duration = int(Gst.SECOND / self._rate)
        self._frames += 1

    def do_src_event(self, event: Gst.Event) -> bool:
        if not self._callbacks.forwards_upstream(event):
            return True
        return bool(GstBase.BaseTransform.do_src_event(self, event))

    def do_sink_event(self, event: Gst.Event) -> bool:
        if event.type == Gst.EventType.EOS:
            self._callbacks.on_end()
        elif event.type == Gst.EventType.FLUSH_STOP:
            self._callbacks.on_flush()
        return bool(GstBase.BaseTransform.do_sink_event(self, event))

"""What the frames of a stream lose on their way to the output, reported once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sr_edge.camera.media.declared import INTERLACED, declared_by, declared_by_frame, listed
from sr_edge.camera.media.deinterlacing import Interlacing
from sr_edge.camera.media.nearest_format import nearest_format
from sr_edge.camera.media.passthrough import OtherStream
from sr_edge.errors import FrameError


class LossReport:
    """Reports losses to a callback, each of them once, over all connections to a stream."""

    def __init__(self, name: str, is_deinterlaced: bool, on_event: Callable[[str], None]) -> None:
        """Creates a report without losses.

        Args:
            name: The stream, for the messages.
            is_deinterlaced: Whether the frames are deinterlaced.
            on_event: Called with each message.
        """
        self._name = name
        self._is_deinterlaced = is_deinterlaced
        self._on_event = on_event
        self._reported: set[str] = set()
        self._declared: set[str] = set()

    def report_streams(self, left_out: Sequence[OtherStream]) -> None:
        """Reports streams that no container here can store."""
        if left_out:
            self._report(f"left out, since no output can store it: {', '.join(map(str, left_out))}")

    def report_start(self, container: Any, video: Any, av_frame: Any) -> None:
        """Reports what container and video stream declare, by the first decoded frame."""
        self._report_declared(declared_by(container, video, av_frame))

    def report_interlacing(self, interlacing: Interlacing) -> None:
        """Reports interlaced frames that are not deinterlaced, and frames that are although nothing marks them."""
        if interlacing and not self._is_deinterlaced:
            self._report("it is interlaced, and combing artifacts are upscaled with it; --deinterlace avoids them")
        if self._is_deinterlaced and not interlacing:
            self._report("no frame is marked as interlaced; all of them are deinterlaced, with the top field first")

    def report_frame(self, av_frame: Any) -> None:
        """Reports what the conversion of a decoded frame changes, and what it declares as the first one."""
        self._report_declared(declared_by_frame(av_frame))
        if av_frame.interlaced_frame and not self._is_deinterlaced:
            self.report_interlacing(Interlacing.FRAMES)
        try:
            note = nearest_format(av_frame.format.name).note
        except FrameError:  # raised where the frame is converted, too
            return
        if note:
            self._report(note)

    def report_damage(self, damaged: int) -> None:
        """Reports that there are damaged pictures; their number is in the statistics."""
        if damaged:
            self._report("damaged pictures are left out and counted")

    def _report_declared(self, declared: set[str]) -> None:
        new, self._declared = declared - self._declared - {INTERLACED}, self._declared | declared
        if new:
            self._report(f"the output will not have: {listed(new)}")

    def _report(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            self._on_event(f"{self._name}: {message}")

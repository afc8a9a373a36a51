"""One frame in tiles through a session: several in flight, and those that did not change reused."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sr_edge.errors import FrameError, UsageError
from sr_edge.frames import Region
from sr_edge.nv12.frames import TiledSamples
from sr_edge.quantities import finite_number
from sr_edge.runtimes.session import Session
from sr_edge.spec import FrameFormat
from sr_edge.tiling import Samples, require_overlap, upscale_frame_in_flight
from sr_edge.upscaler.reuse import FrameReuse, TileReuse, tile_reuse
from sr_edge.upscaler.reuse_bound import require_bound_for
from sr_edge.upscaler.reuse_options import ReuseOptions
from sr_edge.upscaler.tile_choice import TileChoice, choose_tiles
from sr_edge.upscaler.tiled_frame import TiledFrame

_LOG = logging.getLogger(__name__)

OnTile = Callable[[int, int], None]
"""Called after each tile with the number of tiles done and the total of the picture."""

OnTiles = Callable[[TileChoice], None]
"""Called with the tiles that frames are cut into."""

OnReuse = Callable[[FrameReuse], None]
"""Called after a frame with what was reused."""


@dataclass(frozen=True)
class Request:
    """How one frame is upscaled; for `alpha_pass` and `time_s` see `TiledFrame`. Without a time it is that of now."""

    on_tile: OnTile | None = None
    region: Region | None = None
    on_reuse: OnReuse | None = None
    alpha_pass: tuple[int, int] = (0, 1)
    time_s: float | None = None


@dataclass(eq=False)
class TiledSession:
    """An open session and how frames are cut into its tiles.

    Attributes:
        session: The session.
        overlap_px: Minimum overlap of tiles in low-resolution pixels.
        reuse: The tiles that are kept for the next frame; None if all are computed.
        on_tiles: Called with the tiles of the first frame, and again whenever the tiles change.
    """

    session: Session
    overlap_px: int
    reuse: TileReuse | None
    on_tiles: OnTiles | None = None
    _latest: TileChoice | None = field(default=None, init=False)

    def require_pictures(self, bits: int) -> None:
        """Raises FrameError unless the graph takes pictures with this number of bits per sample."""
        io = self.session.spec.io
        if io is FrameFormat.NV12:
            raise FrameError(
                "the graph of this session takes NV12 frames, which pictures are not",
                found="RGB or gray",
                wanted="luma and chroma",
                remedy="open the session with the float or uint8 graph, or call upscale_nv12",
            )
        if io is FrameFormat.UINT8_NHWC and bits == 16:
            raise FrameError(
                "the picture has 16 bits, but the graph of this session takes 8-bit frames",
                found=16,
                wanted=8,
                remedy="open the session with the float graph",
            )

    def require_nv12(self) -> None:
        """Raises UsageError unless the graph takes NV12 frames."""
        io = self.session.spec.io
        if io is not FrameFormat.NV12:
            raise UsageError(
                f"the graph of this session takes {io} frames",
                found=str(io),
                wanted=str(FrameFormat.NV12),
                remedy='deploy the network with --io nv12, and open the session with io="nv12"',
            )

    def count_changed(self, frame_hwc: TiledSamples, time_s: float | None = None) -> int | None:
        """The number of tiles of a frame that `upscale` would compute at that time; None without reuse."""
        if self.reuse is None:
            return None
        plan, scale = self._choose(frame_hwc).plan, self.session.spec.scale
        return self.reuse.count_changed(TiledFrame(frame_hwc, plan, scale=scale, time_s=_time_or_now(time_s)))

    def upscale(
        self,
        frame_hwc: TiledSamples,
        submit: Callable[[Samples], int],
        result: Callable[[int], Samples],
        out: Samples | None,
        request: Request,
    ) -> Samples:
        """Upscales a frame, see `upscale_frame_in_flight`; `submit` and `result` convert from and to its samples."""
        spec, region = self.session.spec, request.region
        choice = self._choose(frame_hwc)
        self._report(choice)
        plan, window = choice.plan, None
        upscale = partial(
            upscale_frame_in_flight,
            frame_hwc,
            in_flight=spec.slots,
            tile=plan.tile,
            scale=spec.scale,
            overlap_px=self.overlap_px,
            out=out,
            on_tile=request.on_tile,
            region=region,
        )
        if self.reuse is None:
            return upscale(submit, result)
        if region is not None:
            plan, window = plan.covering(region)
        tiled = TiledFrame(frame_hwc, plan, window, spec.scale, request.alpha_pass, _time_or_now(request.time_s))
        tiles = self.reuse.frame(submit, result, tiled)
        upscaled = upscale(tiles.submit, tiles.result, is_reused=tiles.is_reused, overlays=tiles.overlays)
        if request.on_reuse is not None:
            request.on_reuse(tiles.summary())
        return upscaled if upscaled.flags.writeable else upscaled.copy()  # a frame of one tile that is kept

    def _choose(self, frame_hwc: TiledSamples) -> TileChoice:
        height, width = frame_hwc.shape[:2]
        return choose_tiles(self.session.spec, height, width, self.overlap_px)

    def _report(self, choice: TileChoice) -> None:
        previous, self._latest = self._latest, choice
        if choice == previous:
            return
        if choice.others:
            _LOG.info("%s", choice)
        if self.on_tiles is not None:
            self.on_tiles(choice)


def tiled_session(
    session: Session, overlap_px: int | None, options: ReuseOptions, on_tiles: OnTiles | None
) -> TiledSession:
    """The session with an empty store of tiles to reuse.

    Args:
        session: An open session.
        overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
        options: Which tiles are reused.
        on_tiles: See `TiledSession`.

    Raises:
        UsageError: What was given is not a session, or its network has no such bound of reuse.
        TileError: The overlap does not fit the session's tile.
    """
    if not hasattr(session, "spec"):
        raise UsageError(
            f"a {type(session).__name__} is not a session",
            found=type(session).__name__,
            wanted="Session",
            remedy="call sr_edge.open_upscaler(...), which takes the path of a bundle or an ONNX file, or "
            "sr_edge.open_frame_session(...)",
        )
    spec = session.spec
    require_bound_for(options, spec.io)
    used_overlap_px = spec.overlap_px if overlap_px is None else overlap_px
    require_overlap(spec.tile, used_overlap_px)
    return TiledSession(session, used_overlap_px, tile_reuse(options, spec.reuse_table), on_tiles)


def _time_or_now(time_s: float | None) -> float:
    return time.monotonic() if time_s is None else finite_number(time_s, "time_s")

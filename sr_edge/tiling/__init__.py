"""Runs a network of fixed input size on pictures of any size: overlapping tiles that are blended without seams."""

from sr_edge.tiling.mosaic import Samples
from sr_edge.tiling.plan import Span, TilePlan, plan_tiles, require_overlap
from sr_edge.tiling.upscaling import cut_tile, output_frame, upscale_frame, upscale_frame_in_flight

__all__ = [
    "Samples",
    "Span",
    "TilePlan",
    "cut_tile",
    "output_frame",
    "plan_tiles",
    "require_overlap",
    "upscale_frame",
    "upscale_frame_in_flight",
]

"""Runs a network of fixed input size on pictures of any size: overlapping tiles that are blended without seams."""

from sr_edge.tiling.mosaic import Samples as Samples
from sr_edge.tiling.plan import Span as Span
from sr_edge.tiling.plan import TilePlan as TilePlan
from sr_edge.tiling.plan import plan_tiles as plan_tiles
from sr_edge.tiling.plan import require_overlap as require_overlap
from sr_edge.tiling.upscaling import Overlay as Overlay
from sr_edge.tiling.upscaling import cut_tile as cut_tile
from sr_edge.tiling.upscaling import output_frame as output_frame
from sr_edge.tiling.upscaling import upscale_frame as upscale_frame
from sr_edge.tiling.upscaling import upscale_frame_in_flight as upscale_frame_in_flight

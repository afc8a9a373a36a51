"""Picture files as arrays: what Pillow reads, with every variant of TIFF, and PNG, JPEG, TIFF and WebP to write."""

from sr_edge.image_files.folders import FolderContent, list_pictures, note_about_others, result_names, scan_folder
from sr_edge.image_files.formats import has_picture_name, is_picture, missing_package, result_name
from sr_edge.image_files.read import MAX_PIXELS, count_frames, picture_from_image, read_picture
from sr_edge.image_files.write import (
    image_from_picture,
    jpeg_from_frame,
    png_from_frame,
    require_format_supports,
    write_picture,
)

__all__ = [
    "MAX_PIXELS",
    "FolderContent",
    "count_frames",
    "has_picture_name",
    "image_from_picture",
    "is_picture",
    "jpeg_from_frame",
    "list_pictures",
    "missing_package",
    "note_about_others",
    "picture_from_image",
    "png_from_frame",
    "read_picture",
    "require_format_supports",
    "result_name",
    "result_names",
    "scan_folder",
    "write_picture",
]

"""GStreamer's Python bindings; the operating system provides them, not a package index."""

from __future__ import annotations

import gi

for _namespace in ("Gst", "GstBase", "GstVideo"):
    gi.require_version(_namespace, "1.0")

from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

Gst.init(None)

__all__ = ["GLib", "GObject", "Gst", "GstBase", "GstVideo"]

"""GStreamer's Python bindings at the versions that are meant; they come with the system, not from a package index."""

from __future__ import annotations

import gi

for _namespace in ("Gst", "GstBase", "GstVideo"):
    gi.require_version(_namespace, "1.0")

from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

Gst.init(None)

__all__ = ["GLib", "GObject", "Gst", "GstBase", "GstVideo"]

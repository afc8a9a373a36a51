"""The GStreamer source; it alone imports GStreamer's bindings."""

"""The GStreamer element `sredge`, for the Python that GStreamer embeds.

A pipeline that holds other Python elements imports `element` too, so what is heavy is imported when an element starts.
"""

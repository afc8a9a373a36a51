"""The GStreamer element `sredge`, for the Python interpreter that GStreamer embeds.

GStreamer imports `element` in every pipeline that has any element in Python, so heavy libraries are imported only when
an `sredge` element starts.
"""

"""A web page that shows a live stream before and after upscaling, its statistics, and a switch between engines."""

"""Commands that upscale images, videos and streams."""

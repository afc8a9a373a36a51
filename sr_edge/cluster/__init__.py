"""Archives of pictures and videos on many machines: what to upscale, where it is, and what is finished."""

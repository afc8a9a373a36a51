"""The loop that upscales frames, its stages, fallback, watchdog and statistics."""

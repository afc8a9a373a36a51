"""What frames are written to."""

"""What frames are read from."""

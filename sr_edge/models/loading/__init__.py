"""Loads networks by name, from checkpoints or from a user's own code."""

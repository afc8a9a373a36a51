"""Measures what tiles do to a network's output, and runs networks in tiles in PyTorch."""

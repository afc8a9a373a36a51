"""Rewrites of a graph, each of one property: float types, opset, uint8 pictures, frames."""

"""Passes over traced graphs: tracing, simplification, half precision, and uint8 input and output."""

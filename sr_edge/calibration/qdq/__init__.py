"""Graphs with INT8 layers: fake quantization for the search, Q/DQ operators for files."""

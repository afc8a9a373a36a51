"""NV12 frames as the input of graphs: their colour, their tiles, and the conversion to RGB."""

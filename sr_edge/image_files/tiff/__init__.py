"""TIFF files: directory, layout of the samples, decoding of strips and tiles, colours, and writing."""

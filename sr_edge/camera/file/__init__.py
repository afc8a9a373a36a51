"""Video files: probing, decoding, segments, muxing and resuming."""

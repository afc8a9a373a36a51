"""Calibration and held-out patches, and checks of the images that they come from."""

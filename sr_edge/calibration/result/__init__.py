"""The result of a calibration, its cache and its files."""

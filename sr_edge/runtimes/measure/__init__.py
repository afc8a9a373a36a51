"""Measurements of the machine: memory, sensors, and which runtimes and devices work."""

"""What `benchmarks/foreign_speed.py` measures and publishes."""

"""Selects the INT8 layers: sensitivity, timings, the loss budget, the latency target and the report."""

"""Selects the INT8 layers: sensitivity, timings, the gate, the latency target and the report."""

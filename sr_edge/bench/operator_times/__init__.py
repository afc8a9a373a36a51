"""The census of a graph: its time by operator and by kind of work in a runtime, and what moves data."""

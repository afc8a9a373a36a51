"""The deployability matrix: what is deployed, how it is measured, and the page; run by benchmarks/networks.py."""

"""Rewrites of a float graph into operators that every target reads; `rewrite` in pipeline.py applies all of them."""

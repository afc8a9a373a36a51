"""Compares two models: their outputs and their layers."""

"""Activation ranges and weights: observers, search, smoothing, fine-tuning."""

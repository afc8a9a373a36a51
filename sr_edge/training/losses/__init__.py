"""Objectives of training: pixel, perceptual and adversarial losses, and the networks that they need."""

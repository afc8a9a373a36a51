"""Folds convolutions, sums and constant factors between two nonlinearities into one convolution."""

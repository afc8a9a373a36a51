"""Commands that measure or verify a bundle, two models, or the machine."""

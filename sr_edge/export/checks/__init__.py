"""Checks of an exported graph: parity with PyTorch, half precision, rules of the targets."""

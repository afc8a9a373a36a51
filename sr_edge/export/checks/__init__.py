"""Checks of a finished graph: parity with PyTorch, half precision, and what each runtime is known to refuse."""

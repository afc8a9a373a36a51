"""Passes that write window attention in the form that compilers fuse, and move its tensors once instead of many times."""

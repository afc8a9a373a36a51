"""Passes that write window attention in the form that compilers fuse, with the fewest copies of its tensors."""

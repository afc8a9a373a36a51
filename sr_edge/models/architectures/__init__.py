"""The registered architectures, one file for each family."""

"""Static twins of the layers that compilers cannot fuse, and the registry of them."""

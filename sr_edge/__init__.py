"""Super-resolution models from a PyTorch checkpoint to a verified deployment on the device."""

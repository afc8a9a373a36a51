"""Access to CUDA through cuda-python or PyCUDA: devices, memory, streams and GPU state."""

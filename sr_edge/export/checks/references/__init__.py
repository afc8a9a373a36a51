"""What a graph is compared with: a PyTorch module, or the ONNX file that a user gave instead of one."""

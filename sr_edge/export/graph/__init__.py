"""ONNX graphs: a view of their nodes and tensors, metadata, digests, and runs in ONNX Runtime."""

"""The ONNX Runtime runtime, and the times of the layers of its optimized graphs."""

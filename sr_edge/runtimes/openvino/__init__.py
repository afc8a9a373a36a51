"""The OpenVINO runtime, and the inner tensors of its compiled graphs."""

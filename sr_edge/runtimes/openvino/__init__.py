"""The OpenVINO runtime, and the inner tensors and layer times of its compiled graphs."""

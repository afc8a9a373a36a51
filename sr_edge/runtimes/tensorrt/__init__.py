"""The runtimes of TensorRT and TensorRT for RTX: bindings, builder, engines and sessions."""

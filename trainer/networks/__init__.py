"""Registration networks, each a torch module that exports to one ONNX graph."""

"""The networks of the benchmark: the light nets that ship with ``onnx``, and three written by hand."""

"""The audit of a graph before onnxruntime opens it."""

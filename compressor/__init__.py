"""compressor: from a fine-tuned encoder to a small, verified ONNX student."""

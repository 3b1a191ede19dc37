"""ONNX graphs: exported from torch, fused for onnxruntime, compared, quantized."""

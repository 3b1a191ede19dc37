"""Rewrites of ONNX graphs, each in place on an ``onnx_ir`` model."""

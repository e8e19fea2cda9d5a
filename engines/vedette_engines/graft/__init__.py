"""Turn a foreign ONNX model into an engine by adding what is missing at both ends of its graph.

In front: `uint8 [N, H, W, 3]` BGR becomes the float tensor the model wants (`preprocess`). Behind: the
model's raw output becomes `candidates: float32 [N, K, 6 + E]` or `scores: float32 [N, C]` (`heads`).
Only `onnx` and NumPy are needed here, and ONNX Runtime where the original is run for comparison.
"""

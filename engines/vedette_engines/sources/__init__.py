"""Take a model in: from what a training run leaves behind to an ONNX file and to the source framework itself.

`spec` says what to take, `kinds` tells files apart by their content, `opening` writes the ONNX file, `reference` runs
the source for comparison. PyTorch is the extra `[export]`: only what needs it imports it, and only when it is used.
"""

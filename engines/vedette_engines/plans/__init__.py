"""TensorRT plans: built on the machine that is to run them, described, kept, and checked before they are loaded.

One code for `tensorrt` 10 and 11 and for `tensorrt_rtx`, which builds without a GPU. Precision is decided in the ONNX
file, never here: networks are strongly typed.
"""

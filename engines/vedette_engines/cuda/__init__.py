"""One small seam to the CUDA driver, and what stands behind it.

`base.py` is the seam, `simulated.py` a device for tests that catches misuse. Nothing here is imported on a machine
without the extra that brings a CUDA library.
"""

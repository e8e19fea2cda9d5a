"""One small seam to the CUDA driver, and what stands behind it.

`base.py` is the seam; `bindings.py` and `pycuda_driver.py` implement it, `opening.py` chooses, and `simulated.py` is a
device for tests that catches misuse. `letterboxing.py` launches the one kernel of ours, in `kernels/`. What needs a
CUDA library is imported by `opening.py` alone, when a device is opened.
"""

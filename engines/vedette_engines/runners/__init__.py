"""Run engines: one seam (`base.py`), one module for each runtime, `opening.py` chooses."""

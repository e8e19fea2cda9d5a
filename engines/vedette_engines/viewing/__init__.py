"""Look at an engine's graph: as an SVG of our own (`graph.py`, `layout.py`, `svg.py`), or in Netron (`browser.py`)."""

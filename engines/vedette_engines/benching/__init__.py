"""Measure engines side by side: `way.py` says what can run, `race.py` runs it in turns, `report.py` holds the figures.

`bench.py` joins them; `table.py`, `page.py` and `charts.py` show what came of it.
"""

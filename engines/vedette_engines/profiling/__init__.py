"""Find out where an engine's time goes: `measure.py` runs it under the runtime's profiler, `advice.py` says what to do.

`profile.py` is what was measured, as plain data; `graph.py` what stands around a node; `trace.py` writes it for
Perfetto.
"""

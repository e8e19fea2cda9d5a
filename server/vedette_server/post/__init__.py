"""From an engine's candidates to detections."""

"""Benchmarks that print ratios: against the bare stages, or a bare echo, measured in the same run."""

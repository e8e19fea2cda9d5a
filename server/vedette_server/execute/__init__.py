"""Lanes that run batches on an engine."""

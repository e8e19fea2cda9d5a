"""Knows which pictures have all that they refer to."""

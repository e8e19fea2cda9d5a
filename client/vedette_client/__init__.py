"""Cameras, watching and load tests: the Vedette client."""

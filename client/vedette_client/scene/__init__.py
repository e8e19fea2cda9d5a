"""Synthetic scenes whose every object is known: for demonstrations, tests and load tests."""

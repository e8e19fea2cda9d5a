"""Keeps events, in a hash chain, before anybody is told."""

"""Reads the headers of compressed video, and nothing more."""

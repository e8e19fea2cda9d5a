"""Frames of the user's own, to calibrate and to judge engines on: which clips there are, and pictures out of them."""

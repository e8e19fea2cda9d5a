"""Cameras that the server calls itself: open a URL, hand its packets to a session, call again when it is gone."""

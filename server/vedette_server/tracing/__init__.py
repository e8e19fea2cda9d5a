"""What the trace of a server is made of: its file and its events."""
